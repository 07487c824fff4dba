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
	"holdline/internal/logonce"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

// meetPause is the time between two looks at what the MOMs know.
const meetPause = 10 * time.Second

// meeting compares what this gateway and each of its MOMs know of the services that
// are stored. A call that a MOM does not know enough about goes to another MOM, or is
// unavailable; the meeting warns before the first such call comes. The MOM decides the number of shards, and the
// gateway takes it over.
type meeting struct {
	mom     *upstream.Pool
	secret  *secret.Secret
	targets map[string]*target
	known   map[string]*momv1.KnownRoute // ours, by service
	differs *prometheus.GaugeVec
	log     *slog.Logger
	once    *logonce.Logger

	said map[string]string // the last difference of each MOM
}

func newMeeting(cfg Config, targets map[string]*target, mom *upstream.Pool, metrics *metrics, once *logonce.Logger) *meeting {
	m := &meeting{
		mom: mom, secret: cfg.Secret, targets: targets, known: map[string]*momv1.KnownRoute{}, differs: metrics.differs, log: cfg.Logger, once: once,
		said: map[string]string{},
	}
	for name := range cfg.Routes {
		if schema := cfg.Schemas.Digest(name); schema != "" { // else its calls are not stored
			m.known[name] = &momv1.KnownRoute{Service: name, Schema: schema}
		}
	}
	return m
}

// Run looks until ctx ends.
func (m *meeting) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		m.look(ctx)
		sleep(ctx, meetPause)
	}
	return nil
}

// look asks all MOMs once. One that does not answer is left for the next time.
func (m *meeting) look(ctx context.Context) {
	counts := map[string]int{}
	for _, mom := range m.mom.Endpoints() {
		bounded, cancel := context.WithTimeout(ctx, wordTimeout)
		res, err := holdsAt(func() *upstream.Endpoint { return mom }, m.secret).ListRoutes(bounded, &momv1.ListRoutesRequest{})
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
	for service := range m.known {
		m.differs.WithLabelValues(service).Set(float64(counts[service]))
	}
}

// compare says how a MOM's routes differ from ours, by service.
func (m *meeting) compare(theirs []*momv1.KnownRoute) map[string]string {
	byService := map[string]*momv1.KnownRoute{}
	for _, r := range theirs {
		byService[r.GetService()] = r
	}
	differences := map[string]string{}
	for service, ours := range m.known {
		switch r := byService[service]; {
		case r == nil:
			differences[service] = "it has no such route"
		case r.GetSchema() == "":
			differences[service] = "it has no schema"
		case r.GetSchema() != ours.GetSchema():
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
