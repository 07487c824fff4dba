package mom

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"holdline/internal/contract"
)

// The results of taking a call, as the label result of holdline_mom_calls_total.
const (
	callStored   = "stored"
	callAttached = "attached" // its key names a task
	callRefused  = "refused"  // the queue is full, or the key was used for another request
	callFailed   = "failed"   // the store is away
)

// metrics are what a MOM counts.
type metrics struct {
	calls   *prometheus.CounterVec
	sent    *prometheus.CounterVec
	lost    *prometheus.CounterVec
	givenUp *prometheus.CounterVec
	// passedOver counts how often tasks were passed over, not how many tasks.
	passedOver *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	return &metrics{
		calls:   counter("holdline_mom_calls_total", "Calls that were to be stored, by service and by what came of it.", "service", "result"),
		sent:    counter("holdline_mom_attempts_total", "Tasks sent to their service, by service and by what each came to.", "service", "result"),
		lost:    counter("holdline_mom_leases_lost_total", "Attempts whose lease was over before they were, by service.", "service"),
		givenUp: counter("holdline_mom_given_up_tasks_total", "Parked tasks that this MOM has given up: nobody came in time, or their calls took too much room.", "service"),
		passedOver: counter("holdline_mom_passed_over_total",
			"How often tasks were passed over since they cannot be sent as they are, by service and cause.", "service", "cause"),
	}
}

// registerGauges registers the metrics that are read only when somebody asks for metrics.
func (m *MOM) registerGauges() {
	gauge := func(name, help string, value func() float64) {
		m.cfg.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("holdline_mom_held_calls", "Callers that are held now.", func() float64 { return float64(m.holds.callers.Load()) })
	gauge("holdline_mom_ready", "1 while the store can be trusted with tasks.", func() float64 { return number(m.ready.Load()) })
	gauge("holdline_mom_on_hold", "1 while this MOM replays nothing: --hold.", func() float64 { return number(m.cfg.OnHold) })
	gauge("holdline_mom_store_snapshots_only", "1 while Redis has no append-only file: its crash loses what is accepted after a snapshot, and what ends then runs again.",
		func() float64 { return number(m.store.Durability().Snapshots) })
	gauge("holdline_mom_store_unsaved_changes", "Changes since the last snapshot of a Redis without an append-only file: what its crash costs.",
		func() float64 { return float64(m.store.Durability().Unsaved) })
	m.cfg.Metrics.MustRegister(queueCollector{m.shards, m.cfg.Logger})
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var endedTasks = queueDesc("holdline_queue_ended_tasks_total", "Tasks of a service that came to a state in which they stay, since the store began.", "state")

var queueTasks = queueDesc("holdline_queue_tasks", "Tasks of a service: queued, running, retrying or dead (DEAD and UNCERTAIN).", "state")

// queueSeries are the series of a queue. They are the same at every MOM that shares the queue, so they must
// not be added up.
var queueSeries = []struct {
	desc   *prometheus.Desc
	value  func(queueDepth) float64
	labels []string // after the service
}{
	{queueTasks, func(d queueDepth) float64 { return float64(d.Queued) }, []string{"queued"}},
	{queueTasks, func(d queueDepth) float64 { return float64(d.Running) }, []string{"running"}},
	{queueTasks, func(d queueDepth) float64 { return float64(d.Retrying) }, []string{"retrying"}},
	{queueTasks, func(d queueDepth) float64 { return float64(d.Dead) }, []string{"dead"}},
	{queueDesc("holdline_queue_oldest_wait_seconds", "How long the task at the head of a queue has waited."),
		func(d queueDepth) float64 { return d.OldestWait.Seconds() }, nil},
	{queueDesc("holdline_queue_bytes", "What the stored calls of a service take."),
		func(d queueDepth) float64 { return float64(d.Bytes) }, nil},
	{queueDesc("holdline_queue_paused", "1 while the replay of a queue is paused."),
		func(d queueDepth) float64 { return number(d.Paused) }, nil},
	{queueDesc("holdline_queue_parked_bytes", "What the calls of the dead tasks take, of holdline_queue_bytes."),
		func(d queueDepth) float64 { return float64(d.Parked.Bytes) }, nil},
	{queueDesc("holdline_queue_oldest_parked_seconds", "How long the oldest dead task has waited for a person."),
		func(d queueDepth) float64 { return d.Parked.Oldest.Seconds() }, nil},
	{queueDesc("holdline_queue_parked_share", "How much of their time or of their room the dead tasks have used up; from 1 on the oldest are given up."),
		func(d queueDepth) float64 { return d.Parked.Share }, nil},
	{queueDesc("holdline_queue_no_route", "1 while this MOM has no route to the service of tasks that are in the store."),
		func(d queueDepth) float64 { return number(d.noRoute) }, nil},
}

func queueDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"service"}, labels...), nil)
}

// queueCollector reads the series of each queue from the store when metrics are asked for.
type queueCollector struct {
	shards *shards
	log    *slog.Logger
}

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, s := range queueSeries {
		descs <- s.desc
	}
	descs <- endedTasks
}

// Collect implements prometheus.Collector. If the store does not answer in time about a queue,
// the queue is left out, and the others do not wait for it.
func (c queueCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var counting errgroup.Group
	counting.SetLimit(maxLooks)
	for _, service := range c.shards.services() {
		counting.Go(func() error {
			depth, err := c.shards.depth(ctx, service)
			ended, missed := c.shards.ended(ctx, service)
			switch err = cmp.Or(err, missed); {
			case err != nil:
				c.log.Debug("queue not counted", "service", service, "error", err)
			case !depth.gone():
				for _, s := range queueSeries {
					metrics <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, s.value(depth), append([]string{service}, s.labels...)...)
				}
				for state, n := range ended {
					metrics <- prometheus.MustNewConstMetric(endedTasks, prometheus.CounterValue, float64(n), service, contract.StateName(state))
				}
			}
			return nil
		})
	}
	_ = counting.Wait() // none fails
}
