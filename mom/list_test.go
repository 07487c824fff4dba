package mom

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// slowLists is a store of which each page takes a while.
type slowLists struct {
	*fakeStore
	page  time.Duration
	pages int // of each shard
}

// List reads as many pages as there is time for.
func (s *slowLists) List(ctx context.Context, _ Shard, _, _ string, _ int, _ []momv1.TaskState) ([]*momv1.Task, string, error) {
	for n := range s.pages {
		select {
		case <-time.After(s.page):
		case <-ctx.Done():
			if n == 0 {
				return nil, "", fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
			}
			return nil, "more", nil
		}
	}
	return nil, "", nil
}

// Many pages may take longer than one. A list that cannot be read to its end in time is short, and says where to go on.
func TestSlowLists(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		page          time.Duration
		pages, shards int
		next          string
		code          connect.Code // 0: none
	}{
		"all can be read":           {page: 250 * time.Millisecond, pages: 4, shards: 1},
		"all of each shard":         {page: 150 * time.Millisecond, pages: 4, shards: 3},
		"all of many shards":        {page: 90 * time.Millisecond, pages: 1, shards: 30},
		"only a part can be read":   {page: 250 * time.Millisecond, pages: 100, shards: 1, next: "more"},
		"only a part of each shard": {page: 250 * time.Millisecond, pages: 100, shards: 4, next: "more"},
		"nothing can be read":       {page: time.Hour, pages: 1, shards: 4, code: connect.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newFake(t, newFakeStore(), func(cfg *Config) {
					var err error
					cfg.Routes, err = route.ParseTable([]string{fmt.Sprintf("%s=http://127.0.0.1:1;shards=%d", arithmeticv1connect.SumServiceName, test.shards)})
					if err != nil {
						t.Fatal(err)
					}
				})
				s := &taskService{store: &slowLists{newFakeStore(), test.page, test.pages}, shards: m.shards}
				began := time.Now()
				page, err := s.ListTasks(t.Context(), &momv1.ListTasksRequest{})
				if page.GetNextPageToken() != test.next || (err != nil || test.code != 0) && connect.CodeOf(err) != test.code {
					t.Errorf("got next %q, %v, want %q, code %v", page.GetNextPageToken(), err, test.next, test.code)
				}
				if test.code != 0 && contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
					t.Errorf("got %v, want STORE_UNAVAILABLE", err)
				}
				if took := time.Since(began); took > listTime {
					t.Errorf("it took %s, want %s at most", took, listTime)
				}
			})
		})
	}
}
