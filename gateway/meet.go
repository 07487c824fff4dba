package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/prometheus/client_golang/prometheus"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/logonce"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

// meetPause is the time between two looks at what the MOMs know.
const meetPause = 10 * time.Second

// meetPatience is how long a difference may last before it is told. Files reach a gateway and its MOMs at different
// moments.
const meetPatience = 5 * time.Second

// unknownPause is the pause while we do not know the schema of a service, which a MOM may know.
const unknownPause = time.Second

// meeting compares what this gateway and each of its MOMs know of the services that
// are stored. A call that a MOM does not know enough about goes to another MOM, or is
// unavailable; the meeting warns before the first such call comes. The MOM decides the number of shards, and the
// gateway takes it over.
type meeting struct {
	mom     *upstream.Pool
	secret  *secret.Secret
	targets *targets
	schemas *route.Schemas
	differs *prometheus.GaugeVec
	log     *slog.Logger
	once    *logonce.Logger

	said map[string]string     // the difference of each MOM that was told last
	seen map[string]difference // the one that was seen last, as long as it is not told
}

// difference is what a MOM knows otherwise.
type difference struct {
	text  string
	since time.Time
}

func newMeeting(cfg Config, targets *targets, mom *upstream.Pool, metrics *metrics, once *logonce.Logger) *meeting {
	m := &meeting{
		mom: mom, secret: cfg.Secret, targets: targets, schemas: cfg.Schemas, differs: metrics.differs, log: cfg.Logger, once: once,
		said: map[string]string{}, seen: map[string]difference{},
	}
	return m
}

// Run looks until ctx ends.
func (m *meeting) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		pause := meetPause
		if m.look(ctx) {
			pause = meetPatience
		}
		if slices.ContainsFunc(m.targets.stored(), m.schemas.Lacks) {
			pause = unknownPause
		}
		sleep(ctx, pause)
	}
	return nil
}

// look asks all MOMs once. One that does not answer is left for the next time. It returns true while there is
// something that is not told yet.
func (m *meeting) look(ctx context.Context) (waits bool) {
	counts := map[string]int{}
	for _, mom := range m.mom.Endpoints() {
		bounded, cancel := context.WithTimeout(ctx, wordTimeout)
		holds := holdsAt(func() *upstream.Endpoint { return mom }, m.secret)
		res, err := holds.ListRoutes(bounded, &momv1.ListRoutesRequest{})
		m.learn(bounded, holds, res.GetRoutes())
		cancel()
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			warnSecret(m.once, mom)
		}
		if err != nil {
			m.log.Debug("MOM not asked for its routes", "mom", mom, "error", err)
			continue
		}
		for _, r := range res.GetRoutes() {
			if t := m.targets.of(r.GetService()); t != nil && r.GetShards() > 0 {
				t.learnShards(int(r.GetShards()))
			}
		}
		differences := m.compare(res.GetRoutes())
		for service := range differences {
			counts[service]++
		}
		waits = m.tell(mom.String(), differences) || waits
	}
	for _, service := range m.targets.stored() {
		m.differs.WithLabelValues(service).Set(float64(counts[service]))
		if m.targets.of(service) == nil { // its route has just gone
			m.differs.DeleteLabelValues(service)
		}
	}
	return waits
}

// learn takes over schemas that the MOM knows and we do not: the service may be down since we were started.
func (m *meeting) learn(ctx context.Context, mom momv1connect.HoldServiceClient, routes []*momv1.KnownRoute) {
	for _, r := range routes {
		if r.GetSchema() != "" && m.targets.of(r.GetService()) != nil && m.schemas.Lacks(r.GetService()) {
			m.learnOne(ctx, mom, r.GetService())
		}
	}
}

func (m *meeting) learnOne(ctx context.Context, mom momv1connect.HoldServiceClient, service string) {
	res, err := mom.GetSchema(ctx, &momv1.GetSchemaRequest{Service: service})
	if err == nil {
		var schema *route.Schemas
		if schema, err = route.OpenSnapshot(res.GetFiles()); err == nil && m.schemas.Learn(service, schema) {
			m.log.Info("schema learned from the MOM", "service", service)
		}
	}
	if err != nil {
		m.log.Debug("schema not learned from the MOM", "service", service, "error", err)
	}
}

// ask asks a MOM for the schema of one service. It is safe for concurrent use.
func (m *meeting) ask(ctx context.Context, service string) {
	m.learnOne(ctx, holdsAt(func() *upstream.Endpoint { return m.mom.Pick() }, m.secret), service)
}

// compare says how a MOM's routes differ from ours, by service.
func (m *meeting) compare(theirs []*momv1.KnownRoute) map[string]string {
	byService := map[string]*momv1.KnownRoute{}
	for _, r := range theirs {
		byService[r.GetService()] = r
	}
	differences := map[string]string{}
	for _, service := range m.targets.stored() {
		ours := m.schemas.Digest(service)
		switch r := byService[service]; {
		case ours == "": // its calls are not stored
		case r == nil:
			differences[service] = "it has no such route"
		case r.GetSchema() == "":
			differences[service] = "it has no schema"
		case r.GetSchema() != ours && m.schemas.Given(service): // else both follow what the service says
			differences[service] = "its schema is another"
		}
	}
	return differences
}

// tell logs what is new of a MOM, once it has lasted for a while; true until then.
func (m *meeting) tell(mom string, differences map[string]string) (waits bool) {
	var lines []string
	for _, service := range slices.Sorted(maps.Keys(differences)) {
		lines = append(lines, service+": "+differences[service])
	}
	text := strings.Join(lines, "; ")
	switch seen := m.seen[mom]; {
	case text == m.said[mom]:
		delete(m.seen, mom)
		return false
	case text == "":
	case text != seen.text:
		m.seen[mom] = difference{text, time.Now()}
		return true
	case time.Since(seen.since) < meetPatience:
		return true
	}
	delete(m.seen, mom)
	m.said[mom] = text
	if text == "" {
		m.log.Info("gateway and MOM agree again", "mom", mom)
		return false
	}
	m.log.Warn("gateway and MOM differ: give both the same routes and schemas; calls that this MOM cannot take are unavailable", "mom", mom, "difference", text)
	return false
}
