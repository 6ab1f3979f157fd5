package runtime

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skytools/skyd/messages"
)

// consumerMetrics holds the descriptions of the metrics of the consumers that this daemon runs.
type consumerMetrics struct {
	batches, duration, sizes, latency, open, fails, events, retried, dead, leaked *prometheus.Desc
}

func metricsOfConsumers() consumerMetrics {
	labels := []string{"db", "queue", "consumer"}
	return consumerMetrics{
		batches: desc("skyd_batches_total", "Batches by result: ok, empty, error (comes again), lost (closed or taken over by "+
			"somebody else).", append(labels, "result")...),
		duration: desc("skyd_batch_duration_seconds", "Time to handle and finish a batch with events.", labels...),
		sizes:    desc("skyd_batch_events", "Events of a finished batch that had some.", labels...),
		latency:  desc("skyd_event_latency_seconds", "Time from ev_time to the finish of the batch, of each event.", labels...),
		retried:  desc("skyd_events_retried_total", "Events that the consumer of this daemon sent to the retry queue.", labels...),
		dead: desc("skyd_events_dead_total", "Events that the consumer of this daemon gave up; what maintenance gives up shows in "+
			"skyd_dead_events.", labels...),
		open:   desc("skyd_worker_batch_open_seconds", "Age of the oldest batch that this daemon handles; 0 without one.", labels...),
		fails:  desc("skyd_worker_failures", "Failures in a row, of the worker that has most.", labels...),
		events: desc("skyd_worker_events_total", "Events of finished batches.", labels...),
		leaked: desc("skyd_worker_handlers_leaked", "Handlers that were given up and have not returned.", labels...),
	}
}

// collectConsumers sends the metrics of the consumers; the workers of a group add up.
func collectConsumers(s Status, emit emitter, ch chan<- prometheus.Metric) {
	m := metricsOfConsumers()
	for i := 0; i < len(s.Workers); {
		sum, open := s.Workers[i], 0.0
		for first := i; i < len(s.Workers) && sameConsumer(s.Workers[first], s.Workers[i]); i++ {
			u := s.Workers[i]
			if !u.OpenSince.IsZero() {
				open = max(open, s.Now.Sub(u.OpenSince).Seconds())
			}
			if i > first {
				addConsumer(&sum, u)
			}
		}
		labels := []string{sum.Database, sum.Queue, sum.Consumer}
		for result, n := range map[string]int64{"ok": sum.Finished, "empty": sum.Empty, "error": sum.Failed, "lost": sum.Lost} {
			emit(m.batches, prometheus.CounterValue, float64(n), append(labels, result)...)
		}
		emit(m.open, prometheus.GaugeValue, open, labels...)
		emit(m.fails, prometheus.GaugeValue, float64(sum.Fails), labels...)
		emit(m.events, prometheus.CounterValue, float64(sum.Events), labels...)
		emit(m.retried, prometheus.CounterValue, float64(sum.Retried), labels...)
		emit(m.dead, prometheus.CounterValue, float64(sum.Dead), labels...)
		emit(m.leaked, prometheus.GaugeValue, float64(sum.Leaked), labels...)
		ch <- histogram(m.duration, sum.Duration, messages.TickBounds[:], labels...)
		ch <- histogram(m.sizes, sum.Sizes, messages.SizeBounds[:], labels...)
		ch <- histogram(m.latency, sum.Latency, messages.LatencyBounds[:], labels...)
	}
}

// sameConsumer tells whether two workers belong to one consumer.
func sameConsumer(a, b messages.WorkerStatus) bool {
	return a.Database == b.Database && a.Queue == b.Queue && a.Consumer == b.Consumer
}

// addConsumer adds the figures of one worker to the sum.
func addConsumer(sum *messages.WorkerStatus, u messages.WorkerStatus) {
	sum.Finished += u.Finished
	sum.Empty += u.Empty
	sum.Failed += u.Failed
	sum.Lost += u.Lost
	sum.Events += u.Events
	sum.Leaked += u.Leaked
	sum.Fails = max(sum.Fails, u.Fails)
	sum.Retried += u.Retried
	sum.Dead += u.Dead
	merge(&sum.Duration, u.Duration)
	merge(&sum.Sizes, u.Sizes)
	merge(&sum.Latency, u.Latency)
}

// merge adds the counts of b to a.
func merge(a *messages.Histogram, b messages.Histogram) {
	for i, n := range b.Counts {
		a.Counts[i] += n
	}
	a.Sum += b.Sum
	a.Count += b.Count
}
