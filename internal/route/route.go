// Package route has the route table, which says where services run, and the schemas: for
// every known method, whether it is unary and repeatable.
package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// Route defines where a service runs and how its calls are treated.
type Route struct {
	Service   string     // full name, such as arithmetic.v1.SumService
	Endpoints []*url.URL // at least one; http or https, no path
	// TTL is how long a task may wait for the service unless its caller says
	// otherwise. Default 15 min, at most 24 h.
	TTL time.Duration
	// AttemptTimeout is the maximum time of one replay. Default 30 s.
	AttemptTimeout time.Duration
	// TryTimeout is how long one direct try may take to the response headers. Default 0: only the deadline of
	// the caller limits it.
	TryTimeout time.Duration
	// Shards is the number of shards that a new queue of the service gets. Later, only the number in the
	// store counts. 0 means that the route gives no number: then a new queue gets 1.
	Shards int
	// SafeRefusals: if the service answers a stored call with unavailable, it has not run the call, so the
	// call is sent again. Default false: unavailable is the final answer, unless it names a time to try again
	// or the call has an idempotency key.
	SafeRefusals bool
	// Health is how the endpoints' health is found out. Default: see upstream.HealthAuto.
	Health upstream.Health
	// HTTP is the version that the endpoints speak. Default: see upstream.AnyHTTP.
	HTTP upstream.HTTP
	// Schema says where the schema of the service comes from: SchemaReflect, SchemaNone, or the file of an image.
	// Default: the images that have the service, else as with SchemaReflect.
	Schema string
	// Protocol is the only protocol that the endpoints speak: calls in any other are translated. Default: the
	// gateway finds out what the endpoints speak.
	Protocol upstream.Protocol
}

// Pool returns the configuration for a pool of the route's endpoints.
func (r *Route) Pool(engine wire.Engine, log *slog.Logger) upstream.Config {
	return upstream.Config{Service: r.Service, Endpoints: r.Endpoints, Health: r.Health, HTTP: r.HTTP, Protocol: r.Protocol, Engine: engine, Log: log}
}

// The values of the options health, http and protocol.
var (
	healths = map[string]upstream.Health{
		"auto": upstream.HealthAuto, "name": upstream.HealthName, "overall": upstream.HealthOverall, "dial": upstream.HealthDial,
	}
	protocols = map[string]upstream.Protocol{
		"auto": upstream.AnyProtocol, "grpc": upstream.OnlyGRPC, "connect": upstream.OnlyConnect, "grpcweb": upstream.OnlyGRPCWeb,
	}
	versions = map[string]upstream.HTTP{"auto": upstream.AnyHTTP, "1": upstream.OnlyHTTP1, "2": upstream.OnlyHTTP2}
)

// Schemas that are not read from a file.
const (
	// SchemaReflect: the service offers its schema by server reflection.
	SchemaReflect = "reflect"
	// SchemaNone: it has none, so its calls are neither stored nor translated.
	SchemaNone = "none"
)

// Defaults and limits of a route.
const (
	DefaultAttemptTimeout = 30 * time.Second
	MaxShards             = 64
)

// Parse reads SERVICE=URL[,URL…][;key=value…], the form of --route.
func Parse(spec string) (*Route, error) {
	service, rest, ok := strings.Cut(spec, "=")
	if !ok || !protoreflect.FullName(service).IsValid() {
		return nil, fmt.Errorf("route %q: want package.Service=http://host:port", spec)
	}
	r := &Route{Service: service, TTL: contract.DefaultTTL, AttemptTimeout: DefaultAttemptTimeout}
	urls, options, _ := strings.Cut(rest, ";")
	for raw := range strings.SplitSeq(urls, ",") {
		u, err := ParseEndpoint(raw)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", service, err)
		}
		r.Endpoints = append(r.Endpoints, u)
	}
	if options == "" {
		return r, nil
	}
	for option := range strings.SplitSeq(options, ";") {
		if err := r.set(option); err != nil {
			return nil, fmt.Errorf("route %s: %w", service, err)
		}
	}
	return r, nil
}

// ParseEndpoint reads the base URL of an endpoint: a scheme, a host, a port.
func ParseEndpoint(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("endpoint %q: want http://host:port or https://host:port", raw)
	}
	u.Path = ""
	return u, nil
}

func (r *Route) set(option string) error {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "ttl":
		return setDuration(&r.TTL, option, value, contract.MaxTTL)
	case "attempt-timeout":
		return setDuration(&r.AttemptTimeout, option, value, contract.MaxTTL)
	case "try-timeout":
		return setDuration(&r.TryTimeout, option, value, contract.MaxTTL)
	case "shards":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxShards {
			return fmt.Errorf("%q: want a number from 1 to %d", option, MaxShards)
		}
		r.Shards = n
		return nil
	case "refusals":
		if value != "final" && value != "safe" {
			return fmt.Errorf("%q: want final or safe", option)
		}
		r.SafeRefusals = value == "safe"
		return nil
	case "health":
		return setWord(&r.Health, healths, option, value, "auto, name, overall or dial")
	case "http":
		return setWord(&r.HTTP, versions, option, value, "auto, 1 or 2")
	case "schema":
		if value == "" {
			return fmt.Errorf("%q: want reflect, none, or the file of an image", option)
		}
		r.Schema = value
		return nil
	case "protocol":
		return setWord(&r.Protocol, protocols, option, value, "auto, grpc, connect or grpcweb")
	}
	return fmt.Errorf("%q: unknown option, want ttl, attempt-timeout, try-timeout, shards, refusals, health, http, protocol or schema", option)
}

func setWord[T any](to *T, words map[string]T, option, value, want string) error {
	word, ok := words[value]
	if !ok {
		return fmt.Errorf("%q: want %s", option, want)
	}
	*to = word
	return nil
}

func setDuration(to *time.Duration, option, value string, most time.Duration) error {
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 || d > most {
		return fmt.Errorf("%q: want a duration such as 30s, at most %s", option, most)
	}
	*to = d
	return nil
}

// Table maps a service's full name to its route. It is read-only once made.
type Table map[string]*Route

// ParseTable reads many routes. Two routes of the same service are an error, because that is usually a
// mistake.
func ParseTable(specs []string) (Table, error) {
	table := make(Table, len(specs))
	for _, spec := range specs {
		r, err := Parse(spec)
		if err != nil {
			return nil, err
		}
		if table[r.Service] != nil {
			return nil, fmt.Errorf("route %s is given twice; name all endpoints of a service in one route, separated by commas", r.Service)
		}
		table[r.Service] = r
	}
	return table, nil
}

// Schemas reads the images, and the images that routes name, and applies the routes' options about schemas.
func (t Table) Schemas(images ...string) (*Schemas, error) {
	return t.ReadSchemas(os.ReadFile, images...)
}

// ReadSchemas is Schemas with another way to read files.
func (t Table) ReadSchemas(read ReadFile, images ...string) (*Schemas, error) {
	for _, name := range t.Services() {
		if schema := t[name].Schema; schema != "" && schema != SchemaReflect && schema != SchemaNone && !slices.Contains(images, schema) {
			images = append(images, schema)
		}
	}
	s, err := loadSchemas(read, images)
	if err != nil {
		return nil, err
	}
	for name, r := range t {
		if r.Schema == SchemaReflect || r.Schema == SchemaNone {
			s.hidden[name], s.none[name] = true, r.Schema == SchemaNone
		}
		if known := s.Service(name); r.Schema != "" && !s.hidden[name] && known == nil {
			return nil, fmt.Errorf("route %s: the image %s does not have this service", name, r.Schema)
		}
	}
	return following(s), nil
}

// Services returns the names of the routed services, sorted.
func (t Table) Services() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Changes names the services whose routes another table adds, changes and removes, sorted.
func (t Table) Changes(next Table) (added, changed, removed []string) {
	for _, name := range next.Services() {
		if r := t[name]; r == nil {
			added = append(added, name)
		} else if !reflect.DeepEqual(r, next[name]) {
			changed = append(changed, name)
		}
	}
	for _, name := range t.Services() {
		if next[name] == nil {
			removed = append(removed, name)
		}
	}
	return added, changed, removed
}

// Specs reads routes from a file, one per line. It skips blank lines and lines that start with #.
func Specs(read ReadFile, name string) ([]string, error) {
	raw, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	var specs []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			specs = append(specs, line)
		}
	}
	return specs, nil
}

// ErrNoRoutes says how to give routes.
var ErrNoRoutes = errors.New("no routes: give --route package.Service=http://host:port, --routes FILE or HOLDLINE_ROUTES")

// SplitProcedure splits the path /package.Service/Method.
func SplitProcedure(path string) (service, method string, ok bool) {
	if !strings.HasPrefix(path, "/") {
		return "", "", false
	}
	service, method, ok = strings.Cut(path[1:], "/")
	return service, method, ok && service != "" && method != "" && !strings.Contains(method, "/")
}
