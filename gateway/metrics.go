package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the gateway's series; those of breakers are read when they are asked for.
type metrics struct {
	calls    *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	differs  *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer, targets *targets, held *atomic.Int64) *metrics {
	m := &metrics{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holdline_gateway_call_duration_seconds",
			Help:    "Time from a call's headers to the end of its response, by service and outcome.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"service", "outcome"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdline_gateway_attempts_total",
			Help: "Attempts at endpoints, by service and by what each came to.",
		}, []string{"service", "result"}),
		differs: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdline_gateway_mom_differences",
			Help: "MOMs whose route or schema of a service is not the gateway's.",
		}, []string{"service"}),
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.attempts, m.differs, breakers{targets},
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_gateway_held_calls", Help: "Callers that are held at a MOM now."},
				func() float64 { return float64(held.Load()) }))
	}
	return m
}

// of are the series of a service.
func (m *metrics) of(service string) (calls prometheus.ObserverVec, attempts *prometheus.CounterVec) {
	label := prometheus.Labels{"service": service}
	return m.calls.MustCurryWith(label), m.attempts.MustCurryWith(label)
}

// forget drops the series of a service that has no route any more.
func (m *metrics) forget(service string) {
	label := prometheus.Labels{"service": service}
	m.calls.DeletePartialMatch(label)
	m.attempts.DeletePartialMatch(label)
	m.differs.DeletePartialMatch(label)
}

// breakers collects the series of each service's breaker and endpoints.
type breakers struct{ of *targets }

var (
	breakerOpen = prometheus.NewDesc("holdline_gateway_breaker_open", "1 while a service's calls are not tried.", []string{"service"}, nil)
	understands = prometheus.NewDesc("holdline_gateway_understands", "1 for a media type that a service has shown to understand, 0 for one that it does not: such calls are translated.", []string{"service", "type"}, nil)
	endpoints   = prometheus.NewDesc("holdline_gateway_endpoints", "Endpoints of a service: fit, or ejected until they are healthy.", []string{"service", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (breakers) Describe(descs chan<- *prometheus.Desc) {
	descs <- breakerOpen
	descs <- endpoints
	descs <- understands
}

// Collect implements prometheus.Collector.
func (all breakers) Collect(series chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for service, t := range all.of.all() {
		b := t.breaker
		open := 0
		if b.open() {
			open = 1
		}
		fit, ejected := b.pool.Fitness()
		gauge(breakerOpen, open, service)
		gauge(endpoints, fit, service, "fit")
		gauge(endpoints, ejected, service, "ejected")
		understood, lacking := b.pool.Heard()
		for _, mediaType := range understood {
			gauge(understands, 1, service, mediaType)
		}
		for _, mediaType := range lacking {
			gauge(understands, 0, service, mediaType)
		}
	}
}
