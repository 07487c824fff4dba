package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdline/internal/load"
)

// How long a watcher watches, and an upload stalls; and how many of each there are at
// a gateway at once.
const (
	watchTime     = 100 * time.Millisecond
	stallTime     = time.Second
	watchersAtOne = 5
	uploadsAtOne  = 2
	uploadSize    = 2 << 20
)

// disturb is what other callers of a gateway do, which must be nobody else's trouble:
// they watch streams for a moment, let uploads stall, and send large bodies to a
// method that answers early. It ends with ctx.
func disturb(ctx context.Context, addr string) {
	transport := load.Wire{}.Transport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	url := "http://" + addr + "/" + ledgerService + "/"
	again := func(one func()) func() {
		return func() {
			for ctx.Err() == nil {
				one()
			}
		}
	}
	var all sync.WaitGroup
	for range watchersAtOne {
		all.Go(again(func() { watchBriefly(ctx, client, url+"Watch") }))
	}
	for range uploadsAtOne {
		all.Go(again(func() {
			stalled, stop := context.WithTimeout(ctx, stallTime)
			defer stop()
			send(stalled, client, url+"Post", "application/json", io.MultiReader(strings.NewReader(`{"amount": "`), until{stalled}), uploadSize)
		}))
		all.Go(again(func() {
			send(ctx, client, url+"Nothing", "application/json", strings.NewReader(strings.Repeat(" ", uploadSize)), uploadSize)
			load.Pause(ctx, stallTime/10)
		}))
	}
	all.Wait()
}

// watchBriefly has a deadline that the service is to keep.
func watchBriefly(ctx context.Context, client *http.Client, url string) {
	ctx, cancel := context.WithTimeout(ctx, 10*watchTime)
	defer cancel()
	send(ctx, client, url, "application/connect+json", strings.NewReader(enveloped(0, "{}")), -1)
	load.Pause(ctx, watchTime/10) // a gateway that is down answers at once
}

func send(ctx context.Context, client *http.Client, url, contentType string, body io.Reader, length int64) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", contentType)
	if length < 0 {
		req.Header.Set("Connect-Timeout-Ms", "100")
	}
	res, err := client.Do(req)
	if err != nil {
		load.Pause(ctx, watchTime)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
}

// until is a body that says nothing until its context ends.
type until struct{ context.Context }

// Read implements io.Reader.
func (u until) Read([]byte) (int, error) {
	<-u.Done()
	return 0, u.Err()
}
