package openapi_test

import (
	"io"
	"sync"
	"testing"

	"holdline/internal/openapi"
	"holdline/internal/route"
)

// A schema may go while the document is written that describes it.
func TestSchemaGoesMeanwhile(t *testing.T) {
	t.Parallel()
	const service = "mom.v1.QueueService"
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	with, err := route.Table{}.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	without, err := route.Table{service: &route.Route{Service: service, Schema: route.SchemaNone}}.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	var replacing sync.WaitGroup
	defer replacing.Wait()
	written := make(chan struct{})
	defer close(written)
	replacing.Go(func() {
		for {
			select {
			case <-written:
				return
			default:
				schemas.Replace(without)
				schemas.Replace(with)
			}
		}
	})
	for range 300 {
		if err := openapi.Write(io.Discard, openapi.Config{Schemas: schemas, Services: []openapi.Service{{Name: service, Proxied: true}}}); err != nil {
			t.Fatal(err)
		}
		for _, m := range schemas.Methods(service) {
			if m == nil {
				t.Fatal("a method that its schema does not have")
			}
		}
	}
}
