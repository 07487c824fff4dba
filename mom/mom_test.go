package mom

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/outage"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// New refuses what it cannot work with.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	routes, err := route.ParseTable([]string{arithmeticv1connect.SumServiceName + "=http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := discard()
	for name, cfg := range map[string]Config{
		"no routes":                     {Schemas: schemas, Logger: log},
		"no schemas":                    {Routes: routes, Logger: log},
		"no logger":                     {Routes: routes, Schemas: schemas},
		"answers for long":              {Routes: routes, Schemas: schemas, Logger: log, AnswerTTL: contract.MaxAnswerTTL + 1},
		"answers for less than no time": {Routes: routes, Schemas: schemas, Logger: log, AnswerTTL: -1},
	} {
		if _, err := New(cfg, newFakeStore()); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// The calls of a routed service are stored from when its schema is known, and as it says; an image is not
// overruled.
func TestIntakeFollowsSchemas(t *testing.T) {
	t.Parallel()
	const service = "acme.v1.Users"
	store := newFakeStore()
	m := newFake(t, store, func(cfg *Config) {
		routes, err := route.ParseTable([]string{service + "=http://127.0.0.1:1", arithmeticv1connect.SumServiceName + "=http://127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Routes = routes
	})
	offer := func(path string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Prefer", "respond-async")
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		return w.Code
	}
	learn := func(service string, methods ...string) bool {
		file := &descriptorpb.FileDescriptorProto{
			Name: proto.String("users.proto"), Package: proto.String(service[:strings.LastIndex(service, ".")]), Syntax: proto.String("proto3"),
			MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Nothing")}},
			Service:     []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(service[strings.LastIndex(service, ".")+1:])}},
		}
		for _, method := range methods {
			nothing := proto.String("." + file.GetPackage() + ".Nothing")
			file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{Name: &method, InputType: nothing, OutputType: nothing})
		}
		raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
		if err != nil {
			t.Fatal(err)
		}
		schema, err := route.OpenSnapshot(raw)
		if err != nil {
			t.Fatal(err)
		}
		return m.cfg.Schemas.Learn(service, schema)
	}
	if got := offer("/" + service + "/Get"); got != http.StatusNotFound {
		t.Errorf("before the schema is known: HTTP %d, want 404", got)
	}
	if !learn(service, "Get") || learn(service, "Get") {
		t.Error("a schema is learned once")
	}
	if got := offer("/" + service + "/Get"); got != http.StatusAccepted {
		t.Errorf("once the schema is known: HTTP %d, want 202", got)
	}
	if !learn(service, "Get", "Put") || offer("/"+service+"/Put") != http.StatusAccepted {
		t.Error("a new method is not stored")
	}
	if learn(arithmeticv1connect.SumServiceName, "Add") || offer("/"+arithmeticv1connect.SumServiceName+"/Add") != http.StatusNotFound {
		t.Error("what an image has was overruled")
	}
	name := m.shelf.name(service)
	if err := m.shelf.keep(t.Context(), service); err != nil || store.schemas[name] == nil || string(store.schemas[latestOf(service)]) != name {
		t.Errorf("kept: %v, %v", store.schemas, err)
	}
	// A MOM that starts in an outage knows it from the store, also if the first call is faster.
	known := m.cfg.Schemas
	m = newFake(t, store, func(cfg *Config) { cfg.Routes = m.cfg.Routes })
	if got := offer("/" + service + "/Put"); got != http.StatusAccepted {
		t.Errorf("another MOM: HTTP %d, want 202", got)
	}
	// Another store does not; then the service is asked.
	rpc, mux := connect.NewServer(), http.NewServeMux()
	grpcreflect.Register(rpc, grpcreflect.WithDescriptorResolver(known), grpcreflect.WithExtensionResolver(known),
		grpcreflect.WithNamer(grpcreflect.NamerFunc(func() []string { return []string{service} })))
	connecthttp.Mount(mux, rpc)
	tells := httptest.NewUnstartedServer(mux)
	tells.Config.Protocols = new(http.Protocols)
	tells.Config.Protocols.SetUnencryptedHTTP2(true)
	tells.Start()
	t.Cleanup(tells.Close)
	m = newFake(t, newFakeStore(), func(cfg *Config) {
		routes, err := route.ParseTable([]string{service + "=" + tells.URL})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Routes = routes
	})
	if got := offer("/" + service + "/Put"); got != http.StatusAccepted {
		t.Errorf("a MOM with another store: HTTP %d, want 202", got)
	}
}

// Tasks of a service that this MOM has no route to are told of, once an hour; it counts and reaps their queue.
func TestUnroutedTasksAreToldOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		store := newFakeStore()
		store.services["other.v1.Service"] = 1
		store.numbers["other.v1.Service"] = Numbering{Shards: 1, Epoch: 1}
		m := newFake(t, store, func(cfg *Config) { cfg.OnHold, cfg.Logger = true, slog.New(slog.NewTextHandler(&text, nil)) })
		inBackground(t, m.shards.Run)
		synctest.Wait()
		id := contract.NewTaskID("other.v1.Service", 1, "", "", "")
		told := func() int { return strings.Count(text.String(), "this MOM has no route to their service") }
		for range 3 {
			m.hear(id, momv1.TaskState_TASK_STATE_QUEUED)
		}
		m.hear(sumID(), momv1.TaskState_TASK_STATE_QUEUED)
		if told() != 1 || !strings.Contains(text.String(), "service=other.v1.Service") {
			t.Errorf("logged %q, want to hear of it once", text.String())
		}
		time.Sleep(alarmPause)
		synctest.Wait()
		m.hear(id, momv1.TaskState_TASK_STATE_QUEUED)
		if told() != 2 {
			t.Errorf("an hour later: told %d times, want twice", told())
		}
	})
}

// An outage that lasts is told with what waits: callers, tasks, and the oldest of them. What is a gateway's own trouble is none.
func TestOutageTellsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		store := newFakeStore()
		store.queue(testLeases(3)...)
		store.oldest = 33 * time.Second
		m := newFake(t, store, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
		stop := inBackground(t, m.outages.Run)
		call(t.Context(), m, sumID(), "Prefer: respond-async", contract.HeaderCause+": "+upstream.GatewayEnds)
		go call(t.Context(), m, sumID(), "Prefer: wait=300", contract.HeaderCause+": dns")
		call(t.Context(), m, sumID(), "Prefer: respond-async", contract.HeaderCause+": dns")
		for range 4 {
			time.Sleep(outage.Every / 3)
			m.outages.Down(arithmeticv1connect.SumServiceName, "dns", nil) // it goes on
		}
		stop()
		synctest.Wait()
		if strings.Contains(text.String(), upstream.GatewayEnds) {
			t.Errorf("logged %q, want nothing of a gateway that ends", text.String())
		}
		for _, want := range []string{"a service fails: its calls are stored", "cause=dns", "a service still fails: its calls wait", "held=1", "queued=3", "oldest_wait=33s"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("logged %q, want %q", text.String(), want)
			}
		}
		m.Drain()
	})
}

// Those who watch the queues share a look, one that is not older than they may be told; who waits for another's look
// need not wait longer than it likes.
func TestLooksAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen lastLook
		looks := 0
		fail := error(nil)
		list := func(context.Context) ([]*momv1.Queue, error) {
			looks++
			time.Sleep(10 * time.Millisecond)
			return []*momv1.Queue{{Queued: int64(looks)}}, fail
		}
		var watching sync.WaitGroup
		for range 9 {
			watching.Go(func() {
				if queues, err := seen.get(t.Context(), list); err != nil || queues[0].GetQueued() != 1 {
					t.Errorf("got %v, %v, want the first look", queues, err)
				}
			})
		}
		watching.Wait()
		time.Sleep(minInterval - time.Millisecond)
		if queues, err := seen.get(t.Context(), list); err != nil || queues[0].GetQueued() != 1 {
			t.Errorf("a look that is new enough: got %v, %v, want it again", queues, err)
		}
		time.Sleep(time.Millisecond)
		fail = errors.New("away")
		if _, err := seen.get(t.Context(), list); !errors.Is(err, fail) {
			t.Errorf("a look that fails: got %v, want %v", err, fail)
		}
		fail = nil
		go func() { _, _ = seen.get(t.Context(), list) }()
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := seen.get(gone, list); !errors.Is(err, context.Canceled) {
			t.Errorf("who has left: got %v, want %v", err, context.Canceled)
		}
		time.Sleep(time.Second)
		if looks != 3 {
			t.Errorf("%d looks, want 3", looks)
		}
	})
}
