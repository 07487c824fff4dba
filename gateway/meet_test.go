package gateway_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/gateway"
	"holdline/internal/freeport"
	"holdline/internal/route"
)

// heard is a log for several writers and a reader.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) await(t *testing.T, words string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		said := strings.Contains(h.text.String(), words)
		h.mu.Unlock()
		if said {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never logged: %s", words)
		}
	}
}

// Another program at an address of a MOM answers for no task.
func TestStrangerAmongMOMs(t *testing.T) {
	t.Parallel()
	stranger := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	mom := newStandIn(t, func(w http.ResponseWriter, _ *http.Request, _ offer) { _, _ = io.WriteString(w, "the answer") })
	var log heard
	g := configured(t, gateway.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, "http://"+freeport.Addr(t), stranger, mom.addr)
	url := "http://" + serve(t, g) + "/v1/tasks/" + faultService + ".0.01M8M021X9YHXKKZMTV2Y6SJYM/answer"
	log.await(t, "another program answers in place of a MOM: check --mom")
	for range 30 {
		res, err := client(t, 1).Get(url) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != "the answer" {
			t.Fatalf("got %q, which is no MOM's", body)
		}
	}
}

// MOMs that share no store do not know each other's keys and tasks.
func TestMOMsOnDifferentStores(t *testing.T) {
	t.Parallel()
	one, other := newStandIn(t, nil), newStandIn(t, nil)
	one.store, other.store = "one", "other"
	unaware, err := route.LoadSchemas() // looks more often
	if err != nil {
		t.Fatal(err)
	}
	var log heard
	configured(t, gateway.Config{Schemas: unaware, Logger: slog.New(slog.NewTextHandler(&log, nil))}, "http://"+freeport.Addr(t), one.addr, other.addr)
	log.await(t, "the MOMs of this gateway use different stores")
}
