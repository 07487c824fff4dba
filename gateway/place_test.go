package gateway_test

import (
	"context"
	"net/http"
	"testing"

	"holdline/internal/contract"
	"holdline/internal/freeport"
)

// placed says that a call is stored, if its id is in the shard that it has among so many.
func placed(shards string, n int) func(http.ResponseWriter, *http.Request, offer) {
	return func(w http.ResponseWriter, r *http.Request, o offer) {
		id, err := contract.ParseTaskID(o.id)
		if err == nil && id == id.Placed(n, contract.Anonymous, r.URL.Path, r.Header.Get(contract.HeaderKey)) {
			hold(w, r, o)
			return
		}
		w.Header().Set(contract.HeaderRefused, contract.RefusedNow)
		w.Header().Set(contract.HeaderShards, shards)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// The shard is the MOM's to say: a call that was offered for another one is offered again under the
// same ULID, and the next one comes right.
func TestMOMSaysShard(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for _, headers := range [][]string{nil, {"Idempotency-Key: k-7"}} {
				mom := newStandIn(t, placed("64", 64))
				url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
				for range 20 {
					before := len(mom.got())
					if got := p.call(t, client(t, p.major), url, add, headers...); got.what != "held" {
						t.Fatalf("caller read %q, want it held", got.what)
					}
					ulids := map[string]bool{}
					for _, o := range mom.got()[before:] {
						id, err := contract.ParseTaskID(o.id)
						if err != nil {
							t.Fatal(err)
						}
						ulids[id.ULID.String()] = true
					}
					if len(ulids) != 1 {
						t.Errorf("the call was offered under %d ULIDs, want one", len(ulids))
					}
				}
				if got := len(mom.got()); got > 21 {
					t.Errorf("20 calls were offered %d times, want one that was offered twice", got)
				}
			}
		})
	}
}

// A MOM whose number of shards is none, or does not help, is a MOM that cannot take the call.
func TestMOMSaysNoShard(t *testing.T) {
	t.Parallel()
	for _, shards := range []string{"0", "-1", "65", "many", "1"} {
		url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, func(w http.ResponseWriter, _ *http.Request, _ offer) {
			w.Header().Set(contract.HeaderRefused, contract.RefusedNow)
			w.Header().Set(contract.HeaderShards, shards)
			w.WriteHeader(http.StatusServiceUnavailable)
		}).addr)
		p := onC[0]
		got := p.call(t, client(t, p.major), url, add)
		if got.what != "unavailable STORE_UNAVAILABLE retry" || got.header.Get(contract.HeaderShards) != "" {
			t.Errorf("%s: caller read %q with %v, want STORE_UNAVAILABLE", shards, got.what, got.header)
		}
	}
}

// A caller who leaves takes its task along, in whichever shard the MOM has it.
func TestLeftWhilePlaced(t *testing.T) {
	t.Parallel()
	p := onC[0]
	offered := make(chan string, 2)
	elsewhere := contract.NewTaskID(faultService, 64, "", "", "").String()
	mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
		offered <- o.id
		if o.number == 1 {
			w.Header().Set(contract.HeaderRefused, contract.RefusedNow)
			w.Header().Set(contract.HeaderShards, "64")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		accept(w, offer{id: elsewhere}) // it was stored before the number changed
		<-r.Context().Done()
	})
	url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		if res, err := client(t, p.major).Do(p.request(t, url, add).WithContext(ctx)); err == nil {
			_ = res.Body.Close()
		}
	}()
	first, second := <-offered, <-offered
	leave()
	<-left
	for _, id := range []string{first, second} {
		mom.awaitAbandoned(t, id)
	}
}
