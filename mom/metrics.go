package mom

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// What taking a call came to, as the label result of holdline_mom_calls_total.
const (
	callStored   = "stored"
	callAttached = "attached" // its key names a task
	callRefused  = "refused"  // the queue is full, or the key was used for another request
	callFailed   = "failed"   // the store is away
)

// metrics are the MOM's series. Those of a queue are the same at every MOM that
// shares it, so they are not to be added up.
type metrics struct {
	calls   *prometheus.CounterVec
	sent    *prometheus.CounterVec
	lost    *prometheus.CounterVec
	ended   *prometheus.CounterVec
	givenUp *prometheus.CounterVec
	// passedOver counts how often tasks were passed over, not how many tasks.
	passedOver *prometheus.CounterVec
	queues     *queues
}

func newMetrics(m *MOM, registry prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	s := &metrics{
		calls:   counter("holdline_mom_calls_total", "Calls that were to be stored, by service and by what came of it.", "service", "result"),
		sent:    counter("holdline_mom_attempts_total", "Tasks sent to their service, by service and by what each came to.", "service", "result"),
		lost:    counter("holdline_mom_leases_lost_total", "Attempts whose lease was over before they were, by service.", "service"),
		ended:   counter("holdline_queue_ended_tasks_total", "Tasks that came to a state in which they stay, as far as this MOM has heard; each MOM hears all.", "service", "state"),
		givenUp: counter("holdline_mom_given_up_tasks_total", "Parked tasks that this MOM has given up: nobody came in time, or their calls took too much room.", "service"),
		passedOver: counter("holdline_mom_passed_over_total",
			"How often tasks were passed over since they cannot be sent as they are, by service and cause.", "service", "cause"),
		queues: &queues{m},
	}
	if registry != nil {
		registry.MustRegister(s.calls, s.sent, s.lost, s.ended, s.givenUp, s.passedOver, s.queues,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_mom_held_calls", Help: "Callers that are held now."},
				func() float64 { return float64(m.held.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_mom_ready", Help: "1 while the store can be trusted with tasks."},
				func() float64 { return number(m.ready.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_mom_on_hold", Help: "1 while this MOM replays nothing: --hold."},
				func() float64 { return number(m.cfg.OnHold) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_mom_store_snapshots_only", Help: "1 while Redis has no append-only file: its crash loses what is accepted after a snapshot, and what ends then runs again."},
				func() float64 { return number(m.store.Durability().Snapshots) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdline_mom_store_unsaved_changes", Help: "Changes since the last snapshot of a Redis without an append-only file: what its crash costs."},
				func() float64 { return float64(m.store.Durability().Unsaved) }))
	}
	return s
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// heard counts a transition that the store has told of.
func (s *metrics) heard(id contract.TaskID, state momv1.TaskState) {
	if !open(state) {
		name := strings.ToLower(strings.TrimPrefix(state.String(), "TASK_STATE_"))
		s.ended.WithLabelValues(id.Service, name).Inc()
	}
}

// queues collects what the store says of each queue when it is asked.
type queues struct{ *MOM }

var (
	queueTasks        = prometheus.NewDesc("holdline_queue_tasks", "Tasks of a service: queued, running, retrying or dead (DEAD and UNCERTAIN).", []string{"service", "state"}, nil)
	queueOldest       = prometheus.NewDesc("holdline_queue_oldest_wait_seconds", "How long the task at the head of a queue has waited.", []string{"service"}, nil)
	queueBytes        = prometheus.NewDesc("holdline_queue_bytes", "What the stored calls of a service take.", []string{"service"}, nil)
	queueParked       = prometheus.NewDesc("holdline_queue_parked_bytes", "What the calls of the dead tasks take, of holdline_queue_bytes.", []string{"service"}, nil)
	queueOldestParked = prometheus.NewDesc("holdline_queue_oldest_parked_seconds", "How long the oldest dead task has waited for a person.", []string{"service"}, nil)
	queueParkedShare  = prometheus.NewDesc("holdline_queue_parked_share", "How much of their time or of their room the dead tasks have used up; from 1 on the oldest are given up.", []string{"service"}, nil)
	queueNoRoute      = prometheus.NewDesc("holdline_queue_no_route", "1 while this MOM has no route to the service of tasks that are in the store.", []string{"service"}, nil)
	queuePaused       = prometheus.NewDesc("holdline_queue_paused", "1 while the replay of a queue is paused.", []string{"service"}, nil)
)

// Describe implements prometheus.Collector.
func (q *queues) Describe(descs chan<- *prometheus.Desc) {
	descs <- queueTasks
	descs <- queueOldest
	descs <- queueBytes
	descs <- queuePaused
	descs <- queueParked
	descs <- queueOldestParked
	descs <- queueParkedShare
	descs <- queueNoRoute
}

// Collect implements prometheus.Collector. A queue that the store does not tell of
// in time is left out, and takes no time from the others.
func (q *queues) Collect(series chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var counting errgroup.Group
	counting.SetLimit(maxLooks)
	for _, service := range q.shards.services() {
		counting.Go(func() error {
			q.count(ctx, service, series)
			return nil
		})
	}
	_ = counting.Wait() // none fails
}

func (q *queues) count(ctx context.Context, service string, series chan<- prometheus.Metric) {
	depth, err := q.shards.depth(ctx, service)
	if err != nil {
		q.cfg.Logger.Debug("queue not counted", "service", service, "error", err)
		return
	}
	routed := q.cfg.Routes[service] != nil
	if !routed && depth.Empty() {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(queueTasks, float64(depth.Queued), service, "queued")
	gauge(queueTasks, float64(depth.Running), service, "running")
	gauge(queueTasks, float64(depth.Retrying), service, "retrying")
	gauge(queueTasks, float64(depth.Dead), service, "dead")
	gauge(queueOldest, depth.OldestWait.Seconds(), service)
	gauge(queueBytes, float64(depth.Bytes), service)
	gauge(queuePaused, number(depth.Paused), service)
	gauge(queueParked, float64(depth.Parked.Bytes), service)
	gauge(queueOldestParked, depth.Parked.Oldest.Seconds(), service)
	gauge(queueParkedShare, depth.Parked.Share, service)
	gauge(queueNoRoute, number(!routed), service)
}
