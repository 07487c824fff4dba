package mom

import (
	"context"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// maxNamed is how many tasks one request of a gateway may name.
const maxNamed = 1000

// holdStore is what the service of holds needs of the store.
type holdStore interface {
	lapseStore
	// Keep marks tasks of one shard whose callers get handles, so that the tasks are not
	// abandoned. It returns the tasks that do not exist or were cancelled before.
	Keep(ctx context.Context, shard Shard, ids []contract.TaskID) (missing []contract.TaskID, err error)
	// Name is the name of the store, by which it can be told from another one; empty before the first successful Check. Safe for concurrent use.
	Name() string
}

// holdService implements momv1connect.HoldServiceHandler, for gateways.
type holdService struct {
	store   holdStore
	lapses  *lapses
	shards  *shards
	routes  *routes
	schemas *route.Schemas
	shelf   *shelf
}

// KeepTasks implements momv1connect.HoldServiceHandler.
func (s *holdService) KeepTasks(ctx context.Context, req *momv1.KeepTasksRequest) (*momv1.KeepTasksResponse, error) {
	ids, err := parseIDs(req.GetIds())
	if err != nil {
		return nil, err
	}
	byShard := map[Shard][]contract.TaskID{}
	for _, id := range ids {
		byShard[ShardOf(id)] = append(byShard[ShardOf(id)], id)
	}
	res := &momv1.KeepTasksResponse{}
	for shard, some := range byShard {
		missing, err := s.store.Keep(ctx, shard, some)
		if err != nil {
			s.lapses.keep(ids)
			return nil, storeError(err)
		}
		for _, id := range missing {
			res.Missing = append(res.Missing, id.String())
		}
	}
	return res, nil
}

// AbandonTasks implements momv1connect.HoldServiceHandler.
func (s *holdService) AbandonTasks(ctx context.Context, req *momv1.AbandonTasksRequest) (*momv1.AbandonTasksResponse, error) {
	ids, err := parseIDs(req.GetIds())
	if err != nil {
		return nil, err
	}
	gone := make([]Departure, len(ids))
	for i, id := range ids {
		gone[i].ID = id
	}
	if err := abandon(ctx, s.store, gone); err != nil {
		return nil, storeError(err)
	}
	return &momv1.AbandonTasksResponse{}, nil
}

// ListRoutes implements momv1connect.HoldServiceHandler.
func (s *holdService) ListRoutes(ctx context.Context, _ *momv1.ListRoutesRequest) (*momv1.ListRoutesResponse, error) {
	res := &momv1.ListRoutesResponse{Store: s.store.Name()}
	for _, name := range s.routes.services() {
		is, _ := s.shards.numbering(ctx, name) // 0 while the store does not answer
		res.Routes = append(res.Routes, &momv1.KnownRoute{
			Service: name, Shards: int32(is.Shards), Schema: s.schemas.Digest(name),
		})
	}
	return res, nil
}

// GetSchema implements momv1connect.HoldServiceHandler.
func (s *holdService) GetSchema(_ context.Context, req *momv1.GetSchemaRequest) (*momv1.GetSchemaResponse, error) {
	if s.routes.of(req.GetService()) != nil {
		if own := s.shelf.snapshot(req.GetService()); own.name != "" {
			return &momv1.GetSchemaResponse{Files: own.raw}, nil
		}
	}
	return nil, connect.Errorf(connect.CodeNotFound, "no schema of %q", req.GetService())
}

func parseIDs(raw []string) ([]contract.TaskID, error) {
	if len(raw) > maxNamed {
		return nil, connect.Errorf(connect.CodeInvalidArgument, "ids: want %d at most", maxNamed)
	}
	ids := make([]contract.TaskID, len(raw))
	for i, text := range raw {
		var err error
		if ids[i], err = contract.ParseTaskID(text); err != nil {
			return nil, connect.Errorf(connect.CodeInvalidArgument, "ids: %q: %v", text, err)
		}
	}
	return ids, nil
}
