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

// meetPatience is how long a difference may last before it is logged. Files reach a gateway and its MOMs at different
// times.
const meetPatience = 5 * time.Second

// apartPatience is how long MOMs may have different stores before that is logged. A MOM looks every five seconds whether its store is another.
const apartPatience = 9 * time.Second

// unknownPause is the time between two looks while we do not know the schema of a service that a MOM may know.
const unknownPause = time.Second

// meeting compares the routes and schemas of this gateway with those of each of its MOMs, for the services whose calls
// are stored. A call for which a MOM lacks the route or the schema goes to another MOM, or is
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

	apart time.Time // since when the MOMs have had different stores; zero: they have one

	said map[string]string     // the difference that was logged last, by MOM
	seen map[string]difference // the difference that was seen last and is not logged yet, by MOM
}

// difference describes how a MOM's routes and schemas differ from ours.
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

// look asks all MOMs once. A MOM that does not answer is asked again at the next look. look returns true while there is
// a difference that is not logged yet.
func (m *meeting) look(ctx context.Context) (waits bool) {
	counts, stores := map[string]int{}, map[string]string{}
	for _, mom := range m.mom.Endpoints() {
		bounded, cancel := context.WithTimeout(ctx, wordTimeout)
		holds := holdsAt(func() *upstream.Endpoint { return mom }, m.secret)
		res, err := holds.ListRoutes(bounded, &momv1.ListRoutesRequest{})
		m.learn(bounded, holds, res.GetRoutes())
		cancel()
		if err != nil {
			m.failed(ctx, mom, err)
			continue
		}
		if store := res.GetStore(); store != "" { // an older release does not say
			stores[store] = mom.String()
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
	m.tellApart(stores)
	return waits
}

// failed warns of an address at which we get nothing of what MOMs give. Another program there might answer for tasks, so it is asked only if
// there is no MOM.
func (m *meeting) failed(ctx context.Context, mom *upstream.Endpoint, err error) {
	m.log.Debug("MOM not asked for its routes", "mom", mom, "error", err)
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	switch {
	case connect.CodeOf(err) == connect.CodeUnauthenticated:
		warnSecret(m.once, mom)
	case mom.Strange(ctx):
		m.once.Warn("stranger "+mom.String(), "another program answers in place of a MOM: check --mom", "mom", mom)
	}
}

// tellApart logs an error when the MOMs have had different stores for apartPatience. stores has a MOM of each store, by its name.
func (m *meeting) tellApart(stores map[string]string) {
	switch {
	case len(stores) < 2:
		m.apart = time.Time{}
	case m.apart.IsZero():
		m.apart = time.Now()
	case time.Since(m.apart) >= apartPatience:
		m.once.Log(slog.LevelError, "stores", "the MOMs of this gateway use different stores: calls with one key may run twice, and tasks are not found", "moms", slices.Sorted(maps.Values(stores)))
	}
}

// learn takes over schemas that the MOM knows and we do not: the service may have been down since we were started.
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

// compare returns how a MOM's routes differ from ours, by service.
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
		case r.GetSchema() != ours && m.schemas.Given(service): // otherwise both learn the schema from the service
			differences[service] = "its schema is another"
		}
	}
	return differences
}

// tell logs a new difference of a MOM once it has lasted for meetPatience. Until then it returns true.
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
