package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

var withWorld = flag.Bool("world", false, "run the tests that need tools and libraries of other makers, as `make world` does")

// Services and callers made with other people's libraries, each with each, whatever protocols they
// speak: each call is answered directly, through an outage, by its handle and under a key.
func TestWorld(t *testing.T) {
	t.Parallel()
	if !*withWorld {
		t.Skip("`make world` gets the Node modules that this needs, and runs it")
	}
	image := ledgerImage(t)
	token := func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if len(info.Header.Get("authorization")) == 0 {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		return ctx, nil
	}
	for name, serve := range map[string]func(t *testing.T, addr string) (stop func()){
		"grpc-go": func(t *testing.T, addr string) func() {
			t.Helper()
			return run(t, &foreign{addr: addr, health: true})
		},
		"grpc-go-auth": func(t *testing.T, addr string) func() {
			t.Helper()
			return run(t, &foreign{addr: addr, health: true, options: []grpc.ServerOption{grpc.InTapHandle(token)}})
		},
		"connect-go": func(t *testing.T, addr string) func() {
			t.Helper()
			return run(t, (&ledger{}).serve(t, addr))
		},
		"connect-node-http": func(t *testing.T, addr string) func() {
			t.Helper()
			return serveWith(t, addr, "node", "world/service.js", "http", portOf(addr), image)
		},
		"connect-node-http2": func(t *testing.T, addr string) func() {
			t.Helper()
			return serveWith(t, addr, "node", "world/service.js", "http2", portOf(addr), image)
		},
		"python-grpcio": func(t *testing.T, addr string) func() {
			t.Helper()
			if exec.Command("/usr/bin/python3", "-c", "import grpc, google.protobuf").Run() != nil {
				t.Skip("no grpcio: apt-get install python3-grpcio python3-protobuf")
			}
			return serveWith(t, addr, "/usr/bin/python3", "world/service.py", portOf(addr), image)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{image}, Routes: []string{ledgerService + "=http://" + addr}, CORSOrigins: []string{"*"}})
			w := &world{t: t, s: s, callers: worldCallers(t, s, image)}
			stop := serve(t, addr)
			w.direct()
			w.streams(name != "connect-node-http")
			stop()
			held := w.outage()
			serve(t, addr)
			held()
		})
	}
}

func portOf(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }

// serveWith runs a service that is a program, until it is stopped.
func serveWith(t *testing.T, addr, program string, args ...string) (stop func()) {
	t.Helper()
	service := &process{name: program, args: args}
	service.begin(t)
	awaitListening(t, addr)
	return func() { service.kill(t) }
}

func awaitListening(t *testing.T, addr string) {
	t.Helper()
	eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "somebody listens at %s", addr)
}

// worldReply is what a caller was told.
type worldReply struct {
	ID      int    `json:"id"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Amount  int64  `json:"amount"`
	Task    string `json:"task"`
}

// caller calls a method of the ledger with other people's code.
type caller func(method string, amount int64, header map[string]string) worldReply

// world is one service and its callers.
type world struct {
	t       *testing.T
	s       *stack.Stack
	callers map[string]caller
}

var ledgerMethods = []string{"Read", "Post"}

// each runs something for all callers and methods side by side, and waits for them.
func (w *world) each(do func(name string, call caller, method string)) {
	var all sync.WaitGroup
	for name, call := range w.callers {
		for _, method := range ledgerMethods {
			all.Go(func() { do(name, call, method) })
		}
	}
	all.Wait()
}

// direct calls while the service is there.
func (w *world) direct() {
	w.each(func(name string, call caller, method string) {
		for _, header := range []map[string]string{{}, {"idempotency-key": name + method}, {"idempotency-key": name + method}} {
			what := fmt.Sprint(name, " ", method, " ", header)
			var got worldReply
			for got = call(method, 1, with(header)); got.Code == int(connect.CodeUnavailable); { // it has yet to listen
				got = call(method, 1, with(header))
			}
			if got.Code != 0 || got.Amount != 2 || (got.Task == "") != (len(header) == 0) {
				w.t.Errorf("%s: %+v, want an amount of 2", what, got)
			}
		}
	})
}

// streams streams while the service is there; talks: it can hear and speak at once.
func (w *world) streams(talks bool) {
	var all sync.WaitGroup
	for name, call := range w.callers {
		if name == "chromium" || strings.HasPrefix(name, "curl") {
			continue // they would have to write envelopes
		}
		for method, want := range map[string]int64{"Count": 1 + 2 + 3, "Talk": 4 + 4} {
			if method == "Talk" && (!talks || name == "grpc-web" || name == "connect-node/1.1") {
				continue
			}
			all.Go(func() {
				if got := call(method, 3, with(nil)); got.Code != 0 || got.Amount != want {
					w.t.Errorf("%s %s: %+v, want %d in all", name, method, got, want)
				}
			})
		}
	}
	all.Wait()
}

// outage calls while the service is down; held waits for what comes of it once it is back.
func (w *world) outage() (held func()) {
	var (
		stored  int
		handles sync.Map
		waiting sync.WaitGroup
		list    = momv1.TaskState_TASK_STATE_QUEUED
	)
	for _, call := range w.callers { // the first call finds out what has become of the connections
		call("Read", 1, with(map[string]string{"prefer": "wait=0"}))
		stored++
		break
	}
	w.each(func(name string, call caller, method string) {
		got := call(method, 10, with(map[string]string{"prefer": "wait=0"}))
		switch {
		case got.Code != int(connect.CodeDeadlineExceeded) || got.Task == "":
			w.t.Errorf("%s %s in an outage: %+v, want a handle", name, method, got)
		default:
			handles.Store(got.Task, name+" "+method)
		}
	})
	w.t.Cleanup(waiting.Wait)
	for name, call := range w.callers {
		for _, method := range ledgerMethods {
			for _, header := range []map[string]string{{}, {"idempotency-key": "held" + name + method}} {
				header["prefer"] = "wait=60"
				what := fmt.Sprint(name, " ", method, " held, ", header)
				stored++
				waiting.Go(func() {
					if got := call(method, 20, with(header)); got.Code != 0 || got.Amount != 21 || got.Task == "" {
						w.t.Errorf("%s: %+v, want an amount of 21", what, got)
					}
				})
			}
			stored++
		}
	}
	awaitTasks(w.t, w.s.Gateway, stored, list)
	return func() {
		waiting.Wait()
		handles.Range(func(task, what any) bool {
			eventually(w.t, func() bool {
				res, err := http.Get("http://" + w.s.Gateway + "/v1/tasks/" + task.(string) + "/answer") //nolint:noctx // bounded by the test
				if err != nil {
					return false
				}
				body, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				return res.StatusCode == http.StatusOK && strings.Contains(string(body), `"11"`)
			}, "the answer of %s", what)
			return true
		})
	}
}

// with adds what the service behind an interceptor asks for.
func with(header map[string]string) map[string]string {
	all := map[string]string{"authorization": "Bearer token"}
	for key, value := range header {
		all[key] = strings.ReplaceAll(value, "/", "-")
	}
	return all
}

// worldCallers are the clients of a gateway.
func worldCallers(t *testing.T, s *stack.Stack, image string) map[string]caller {
	t.Helper()
	all := map[string]caller{"grpc-go": grpcGo(t, s.Gateway)}
	for name, version := range map[string]string{"curl/1.1": "--http1.1", "curl/2": "--http2-prior-knowledge"} {
		all[name] = func(method string, amount int64, header map[string]string) worldReply {
			return curl(t, s.Gateway, version, method, amount, header)
		}
	}
	ask := nodeCallers(t, "http://"+s.Gateway, image)
	for _, client := range []string{"connect-node/1.1", "connect-node/2", "connect-node/grpc", "grpc-web", "grpc-js"} {
		all[client] = func(method string, amount int64, header map[string]string) worldReply {
			return ask(map[string]any{"client": client, "method": method, "amount": amount, "header": header})
		}
	}
	if _, err := exec.LookPath("chromium"); err == nil {
		all["chromium"] = func(method string, amount int64, header map[string]string) worldReply {
			return chromium(t, s.Gateway, method, amount, header)
		}
	}
	return all
}

// nodeCallers runs the clients of world/caller.js.
func nodeCallers(t *testing.T, url, image string) (ask func(call map[string]any) worldReply) {
	t.Helper()
	node := exec.Command("node", "world/caller.js", url, image)
	node.Stderr = t.Output()
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	var (
		mu      sync.Mutex
		waiting = map[int]chan worldReply{}
		read    sync.WaitGroup
	)
	read.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var got worldReply
			if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
				t.Errorf("caller.js said %q", lines.Text())
				continue
			}
			mu.Lock()
			waiting[got.ID] <- got
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = in.Close()
		read.Wait()
		_ = node.Wait()
	})
	return func(call map[string]any) worldReply {
		told := make(chan worldReply, 1)
		mu.Lock()
		call["id"] = len(waiting)
		waiting[len(waiting)] = told
		line, _ := json.Marshal(call)
		_, err := in.Write(append(line, '\n'))
		mu.Unlock()
		if err != nil {
			return worldReply{Code: -1, Message: err.Error()}
		}
		select {
		case got := <-told:
			return got
		case <-time.After(2 * time.Minute):
			return worldReply{Code: -1, Message: "caller.js said nothing"}
		}
	}
}

func grpcGo(t *testing.T, addr string) caller {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(method string, amount int64, header map[string]string) worldReply {
		ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), metadata.New(header)), time.Minute)
		defer cancel()
		if ledgerStreams[method] != nil {
			return streamGRPCGo(ctx, t, conn, method, amount)
		}
		var head, trailer metadata.MD
		res := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
		err := conn.Invoke(ctx, "/"+ledgerService+"/"+method, amounts(t, amount), res, grpc.Header(&head), grpc.Trailer(&trailer))
		got := worldReply{Code: int(status.Code(err)), Message: status.Convert(err).Message(), Amount: amountOf(res)}
		for _, task := range append(head.Get("holdline-task"), trailer.Get("holdline-task")...) {
			got.Task = task
		}
		return got
	}
}

// streamGRPCGo sends an entry, in a conversation two, and adds up what comes.
func streamGRPCGo(ctx context.Context, t *testing.T, conn *grpc.ClientConn, method string, amount int64) (got worldReply) {
	t.Helper()
	said := func(err error) worldReply {
		got.Code, got.Message = int(status.Code(err)), status.Convert(err).Message()
		return got
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: method == "Talk"}, "/"+ledgerService+"/"+method)
	if err != nil {
		return said(err)
	}
	for _, times := range []string{"Count", "Talk", "Talk"} {
		if times == method {
			if err := stream.SendMsg(amounts(t, amount)); err != nil {
				return said(err)
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return said(err)
	}
	for {
		entry, err := grpcEntries{stream}.receive()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			return said(err)
		}
		got.Amount += amountOf(entry)
	}
}

func curl(t *testing.T, addr, version, method string, amount int64, header map[string]string) worldReply {
	t.Helper()
	args := []string{
		"-sS", version, "-w", "\n%{http_code} %header{holdline-task}", "-H", "Content-Type: application/json",
		"-d", fmt.Sprintf(`{"amount": "%d"}`, amount), "http://" + addr + "/" + ledgerService + "/" + method,
	}
	for key, value := range header {
		args = append(args, "-H", key+": "+value)
	}
	out, err := exec.Command("curl", args...).CombinedOutput()
	if err != nil {
		return worldReply{Code: -1, Message: string(out)}
	}
	end := bytes.LastIndexByte(out, '\n')
	statusCode, task, _ := strings.Cut(string(out[end+1:]), " ")
	return readJSON(out[:end], statusCode, task)
}

// readJSON reads what a caller of Connect in JSON got.
func readJSON(body []byte, statusCode, task string) worldReply {
	var said struct{ Code, Message, Amount string }
	if err := json.Unmarshal(body, &said); err != nil {
		return worldReply{Code: -1, Message: statusCode + " " + string(body)}
	}
	got := worldReply{Message: said.Message, Task: strings.TrimSpace(task)}
	got.Amount, _ = strconv.ParseInt(said.Amount, 10, 64)
	if statusCode == "200" {
		return got
	}
	got.Code = -1
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		if code.String() == said.Code {
			got.Code = int(code)
		}
	}
	return got
}

func chromium(t *testing.T, addr, method string, amount int64, header map[string]string) worldReply {
	t.Helper()
	header["content-type"] = "application/json"
	headers, _ := json.Marshal(header)
	said := browse(t, fmt.Sprintf(`const res = await fetch("http://%s/%s/%s", {method: "POST", headers: %s, body: '{"amount": "%d"}'});
return res.status + " " + res.headers.get("holdline-task") + "\n" + await res.text();`, addr, ledgerService, method, headers, amount))
	head, body, _ := strings.Cut(said, "\n")
	statusCode, task, _ := strings.Cut(head, " ")
	return readJSON([]byte(body), statusCode, strings.TrimPrefix(task, "null"))
}

// registerHealth serves the stock health of grpc-go, which knows "" alone.
func registerHealth(s *grpc.Server) { healthv1.RegisterHealthServer(s, health.NewServer()) }
