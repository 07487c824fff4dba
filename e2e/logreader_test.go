package e2e

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
	"holdline/services"
)

// Whoever reads the log of gateway and MOM may stand still, or leave: calls go on, stored ones too, and so does their end.
func TestLogReaders(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(read, write *os.File) error{
		"stands still": func(_, write *os.File) error {
			line := []byte(strings.Repeat("x", 1000))
			for err := error(nil); err == nil; _, err = write.Write(line) {
				if err := write.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					return err
				}
			}
			return nil // there is no room left
		},
		"is gone": func(read, _ *os.File) error { return read.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = read.Close(), write.Close() })
			if err := trouble(read, write); err != nil {
				t.Fatal(err)
			}
			bin, momAddr, addr, sumAddr := build(t), freeport.Addr(t), freeport.Addr(t), freeport.Addr(t)
			route := []string{"--route", arithmeticv1connect.SumServiceName + "=http://" + sumAddr, "--log-level", "debug"}
			parts := []*process{
				{args: append([]string{"mom", "--listen", momAddr, "--redis", redistest.New(t).URL()}, route...)},
				{args: append([]string{"gateway", "--listen", addr, "--mom", "http://" + momAddr}, route...)},
			}
			for _, p := range parts {
				p.name, p.log = bin+"/holdline", write
				p.begin(t)
			}
			awaitReady(t, momAddr)
			awaitReady(t, addr)
			url := "http://" + addr + arithmeticv1connect.SumServiceSumProcedure
			var ids []string
			for range 10 {
				res, body := post(t, url, `{"a":1,"b":2}`, "Prefer: respond-async")
				if res.StatusCode != http.StatusAccepted {
					t.Fatalf("in an outage: %d %s", res.StatusCode, body)
				}
				ids = append(ids, res.Header.Get(contract.HeaderTask))
			}
			svc, _ := services.Find("sum")
			part, err := stack.NewService(svc, sumAddr, testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			run(t, part)
			for _, id := range ids {
				eventually(t, func() bool {
					res, _ := get(t, addr, "/v1/tasks/"+id+"/answer")
					return res.StatusCode == http.StatusOK
				}, "an answer of %s", id)
			}
			for _, p := range parts {
				p.signal(t, syscall.SIGTERM)
				<-p.gone
				if status := p.cmd.ProcessState.ExitCode(); status != 0 {
					t.Errorf("%s: exit status %d", p.args[0], status)
				}
			}
		})
	}
}
