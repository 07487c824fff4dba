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

// unknownPause is the same while we do not know the schema of a service, which a MOM may know.
const unknownPause = time.Second

// meeting compares what this gateway and each of its MOMs know of the services that
// are stored. A call that a MOM does not know enough about goes to another MOM, or is
// unavailable; the meeting warns before the first such call comes. The MOM decides the number of shards, and the
// gateway takes it over.
type meeting struct {
	mom     *upstream.Pool
	secret  *secret.Secret
	targets map[string]*target
	schemas *route.Schemas
	stored  []string // services
	differs *prometheus.GaugeVec
	log     *slog.Logger
	once    *logonce.Logger

	said map[string]string // the last difference of each MOM
}

func newMeeting(cfg Config, targets map[string]*target, mom *upstream.Pool, metrics *metrics, once *logonce.Logger) *meeting {
	m := &meeting{
		mom: mom, secret: cfg.Secret, targets: targets, schemas: cfg.Schemas, stored: cfg.Routes.Services(), differs: metrics.differs, log: cfg.Logger, once: once,
		said: map[string]string{},
	}
	return m
}

// Run looks until ctx ends.
func (m *meeting) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		m.look(ctx)
		pause := meetPause
		if slices.ContainsFunc(m.stored, func(service string) bool { return m.schemas.Digest(service) == "" }) {
			pause = unknownPause
		}
		sleep(ctx, pause)
	}
	return nil
}

// look asks all MOMs once. One that does not answer is left for the next time.
func (m *meeting) look(ctx context.Context) {
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
			if t := m.targets[r.GetService()]; t != nil && r.GetShards() > 0 {
				t.learnShards(int(r.GetShards()))
			}
		}
		differences := m.compare(res.GetRoutes())
		for service := range differences {
			counts[service]++
		}
		m.tell(mom.String(), differences)
	}
	for _, service := range m.stored {
		m.differs.WithLabelValues(service).Set(float64(counts[service]))
	}
}

// learn takes over schemas that the MOM knows and we do not: the service may be down since we were started.
func (m *meeting) learn(ctx context.Context, mom momv1connect.HoldServiceClient, routes []*momv1.KnownRoute) {
	for _, r := range routes {
		if r.GetSchema() == "" || m.targets[r.GetService()] == nil || m.schemas.Digest(r.GetService()) != "" {
			continue
		}
		res, err := mom.GetSchema(ctx, &momv1.GetSchemaRequest{Service: r.GetService()})
		if err == nil {
			var schema *route.Schemas
			if schema, err = route.OpenSnapshot(res.GetFiles()); err == nil && m.schemas.Learn(r.GetService(), schema) {
				m.log.Info("schema learned from the MOM", "service", r.GetService())
			}
		}
		if err != nil {
			m.log.Debug("schema not learned from the MOM", "service", r.GetService(), "error", err)
		}
	}
}

// compare says how a MOM's routes differ from ours, by service.
func (m *meeting) compare(theirs []*momv1.KnownRoute) map[string]string {
	byService := map[string]*momv1.KnownRoute{}
	for _, r := range theirs {
		byService[r.GetService()] = r
	}
	differences := map[string]string{}
	for _, service := range m.stored {
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

// tell logs what is new of a MOM.
func (m *meeting) tell(mom string, differences map[string]string) {
	var lines []string
	for _, service := range slices.Sorted(maps.Keys(differences)) {
		lines = append(lines, service+": "+differences[service])
	}
	text := strings.Join(lines, "; ")
	if text == m.said[mom] {
		return
	}
	m.said[mom] = text
	if text == "" {
		m.log.Info("gateway and MOM agree again", "mom", mom)
		return
	}
	m.log.Warn("gateway and MOM differ: give both the same routes and schemas; calls that this MOM cannot take are unavailable", "mom", mom, "difference", text)
}
