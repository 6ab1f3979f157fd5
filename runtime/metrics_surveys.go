package runtime

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unixSeconds is a time as metrics have it.
func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// collectSurveys sends the metrics of what is known about archives as a whole: what can be restored, gaps, base backups,
// restore drills.
func collectSurveys(s Status, emit emitter) {
	gauge := func(name, help string, labels ...string) func(v float64, values ...string) {
		d := desc(name, help, append([]string{"source"}, labels...)...)
		return func(v float64, values ...string) { emit(d, prometheus.GaugeValue, v, values...) }
	}
	lag := gauge("skyd_wal_archive_lag_bytes", "How far the end of the archived segments is behind the server.")
	missing := gauge("skyd_wal_missing_segments", "Segments that are missing in the archive behind the oldest base backup.")
	gaps := gauge("skyd_wal_gaps", "Gaps on record that neither a base backup nor a repair has closed.")
	writers := gauge("skyd_wal_writers", "Servers that have written one timeline; more than one is a conflict.")
	safe := gauge("skyd_wal_slot_safe_bytes", "WAL that may be written until the receiver's slot is lost; -1: no limit.")
	waits := gauge("skyd_wal_ready_bytes", "Bytes of WAL that wait for the archiver.")
	full := gauge("skyd_wal_full_in_seconds", "When pg_wal is full if what waits grows on like this; absent while it does not grow.")
	begin := gauge("skyd_recovery_window_start_timestamp_seconds", "The first moment that can be restored.")
	end := gauge("skyd_recovery_window_end_timestamp_seconds", "The last moment that can be restored: with a receiver the server's clock, else its last commit.")
	last := gauge("skyd_backup_last_success_timestamp_seconds", "When the newest base backup was complete, by kind.", "kind")
	took := gauge("skyd_backup_duration_seconds", "Duration of the newest base backup, by kind.", "kind")
	size := gauge("skyd_backup_size_bytes", "Size of the newest base backup before compression, by kind.", "kind")
	stored := gauge("skyd_backup_stored_bytes", "What the newest base backup added to the repository, by kind.", "kind")
	bad := gauge("skyd_backup_bad_pages", "Pages with wrong checksums in the newest base backup, by kind.", "kind")
	drill := gauge("skyd_restore_drill_last_success_timestamp_seconds", "When a restore drill last ended well.")
	drillTook := gauge("skyd_restore_drill_duration_seconds", "Duration of the last restore drill.")
	for _, a := range s.Archives {
		to := time.Time{}
		if v := a.Survey; v != nil {
			if v.ServerAnswers {
				lag(float64(v.LagBytes), a.Source)
			}
			missing(float64(v.Missing), a.Source)
			gaps(float64(v.Gaps), a.Source)
			writers(float64(v.Writers), a.Source)
			waits(float64(v.ReadyBytes), a.Source)
			if v.SlotStatus != "" {
				safe(float64(v.SlotSafe), a.Source)
			}
			if v.FullIn != nil {
				full(*v.FullIn, a.Source)
			}
			if !v.WindowStart.IsZero() {
				begin(unixSeconds(v.WindowStart), a.Source)
				to = v.WindowEnd
			}
			for _, b := range v.Backups {
				last(unixSeconds(b.Last), a.Source, b.Kind)
				took(b.Seconds, a.Source, b.Kind)
				size(float64(b.Bytes), a.Source, b.Kind)
				stored(float64(b.Stored), a.Source, b.Kind)
				bad(float64(b.BadPages), a.Source, b.Kind)
			}
		}
		if r := a.Receiver; r != nil && r.StoredTime.After(to) {
			to = r.StoredTime
		}
		if !to.IsZero() {
			end(unixSeconds(to), a.Source)
		}
		if d := a.Drill; d != nil {
			drillTook(d.Seconds, a.Source)
			if !d.LastSuccess.IsZero() {
				drill(unixSeconds(d.LastSuccess), a.Source)
			}
		}
	}
}
