package route_test

import (
	"reflect"
	"strings"
	"testing"

	"holdline/internal/route"
)

// table makes a table of routes to anywhere, such as "x.v1.S;schema=none".
func table(t *testing.T, routes ...string) route.Table {
	t.Helper()
	for i, r := range routes {
		service, options, _ := strings.Cut(r, ";")
		routes[i] = service + "=http://one:1;ttl=1m;" + options
		routes[i] = strings.TrimSuffix(routes[i], ";")
	}
	made, err := route.ParseTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Other images take the place of those that there are, and routes decide anew whose schemas count. What was learned
// stays only where nothing else is said.
func TestReplace(t *testing.T) {
	t.Parallel()
	x, y, other := image(t, "x.proto", "x.v1"), image(t, "y.proto", "y.v1"), image(t, "z.proto", "y.v1")
	learned := func(name string) *route.Schemas {
		s, err := route.LoadSchemas(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, err := table(t, "x.v1.S").Schemas(x)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Learn("y.v1.S", learned(y)) {
		t.Fatal("y.v1.S is not learned")
	}
	digest := s.Digest("y.v1.S")
	for _, step := range []struct {
		name   string
		route  string
		images []string
		x, y   bool // known
		given  bool // y
		learns bool // y, again
	}{
		{name: "nothing", route: "y.v1.S", images: []string{x}, x: true, y: true},
		{name: "an image less", route: "y.v1.S", y: true},
		{name: "an image of what was learned", route: "y.v1.S", images: []string{y}, y: true, given: true},
		{name: "that image less", route: "y.v1.S", learns: true},
		{name: "no schema, says the route", route: "y.v1.S;schema=none", images: []string{y}},
		{name: "as the service says, says the route", route: "y.v1.S;schema=reflect", images: []string{x, other}, x: true, learns: true},
	} {
		next, err := table(t, step.route).Schemas(step.images...)
		if err != nil {
			t.Fatal(err)
		}
		version := s.Version()
		s.Replace(next)
		if s.Version() == version {
			t.Errorf("%s: the version is the same", step.name)
		}
		for procedure, want := range map[string]bool{"/x.v1.S/Once": step.x, "/y.v1.S/Once": step.y} {
			service, _, _ := route.SplitProcedure(procedure)
			if got := s.Method(procedure) != nil; got != want || (s.Service(service) != nil) != want || (s.Digest(service) != "") != want {
				t.Errorf("%s: %s is known: %v, want %v", step.name, procedure, got, want)
			}
		}
		if got := s.Given("y.v1.S"); got != step.given {
			t.Errorf("%s: y is given: %v, want %v", step.name, got, step.given)
		}
		if step.y && s.Digest("y.v1.S") != digest {
			t.Errorf("%s: y has another digest", step.name)
		}
		if got := s.Learn("y.v1.S", learned(y)); got != step.learns {
			t.Errorf("%s: y is learned: %v, want %v", step.name, got, step.learns)
		}
	}
}

// What is held of a schema shows that the schema was replaced, also by an equal one.
func TestReplacedSchemaIsAnother(t *testing.T) {
	t.Parallel()
	x := image(t, "x.proto", "x.v1")
	s, err := route.LoadSchemas(x)
	if err != nil {
		t.Fatal(err)
	}
	next, err := route.LoadSchemas(x)
	if err != nil {
		t.Fatal(err)
	}
	before, method := s.Of("x.v1.S"), s.Method("/x.v1.S/Once")
	s.Replace(next)
	if s.Of("x.v1.S") == before || s.Method("/x.v1.S/Once") == method {
		t.Error("nothing shows that the schema was replaced")
	}
	version := s.Version()
	if s.Replace(next); s.Version() != version {
		t.Error("the same schemas again are a change")
	}
	none, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	if s.Replace(none); before.Method("/x.v1.S/Once") != method || before.Service("x.v1.S") == nil || s.Method("/x.v1.S/Once") != nil {
		t.Error("who began with a schema has another one now")
	}
}

// Changes are told by service.
func TestChanges(t *testing.T) {
	t.Parallel()
	before := table(t, "a.S", "b.S", "c.S")
	added, changed, removed := before.Changes(table(t, "b.S", "c.S;shards=2", "d.S"))
	if want := [][]string{{"d.S"}, {"c.S"}, {"a.S"}}; !reflect.DeepEqual([][]string{added, changed, removed}, want) {
		t.Errorf("got %v, %v, %v; want %v", added, changed, removed, want)
	}
}
