package runtime

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skytools/skyd/messages"
)

// archiveMetricNames is the contract with dashboards and alert rules for WAL archives: name, type and labels.
var archiveMetricNames = []string{
	"skyd_backup_bad_pages gauge kind,source",
	"skyd_backup_duration_seconds gauge kind,source",
	"skyd_backup_last_success_timestamp_seconds gauge kind,source",
	"skyd_backup_size_bytes gauge kind,source",
	"skyd_backup_stored_bytes gauge kind,source",
	"skyd_recovery_window_end_timestamp_seconds gauge source",
	"skyd_recovery_window_start_timestamp_seconds gauge source",
	"skyd_restore_drill_duration_seconds gauge source",
	"skyd_restore_drill_last_success_timestamp_seconds gauge source",
	"skyd_wal_archive_failures_total counter source",
	"skyd_wal_archive_lag_bytes gauge source",
	"skyd_wal_archived_bytes_total counter source",
	"skyd_wal_archived_total counter source",
	"skyd_wal_full_in_seconds gauge source",
	"skyd_wal_gaps gauge source",
	"skyd_wal_last_archived_timestamp_seconds gauge source",
	"skyd_wal_missing_segments gauge source",
	"skyd_wal_push_refused_total counter reason,source",
	"skyd_wal_ready_bytes gauge source",
	"skyd_wal_ready_segments gauge source",
	"skyd_wal_receiver_connected gauge source",
	"skyd_wal_receiver_lag_bytes gauge position,source",
	"skyd_wal_receiver_restarts_total counter source",
	"skyd_wal_slot_safe_bytes gauge source",
	"skyd_wal_spool_bytes gauge source",
	"skyd_wal_writers gauge source",
}

// descForm finds name and labels in what a Desc says of itself.
var descForm = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)

// TestArchiveMetrics_AreTheContract: everything that is known about an archive is in the metrics, under the names of the
// contract.
func TestArchiveMetrics_AreTheContract(t *testing.T) {
	t.Parallel()
	now, soon := time.Now(), 3600.0
	a := messages.ArchiveStatus{
		Source: "main", Refused: map[string]int64{"conflict": 1}, LastAt: now,
		Receiver: &messages.ReceiverStatus{Connected: true, Server: 10, Stored: 4, StoredTime: now, Restarts: 2},
		Survey: &messages.ArchiveSurveyed{
			ServerAnswers: true, SlotStatus: "reserved", FullIn: &soon, WindowStart: now, WindowEnd: now.Add(-time.Hour),
			Backups: []messages.BackupSeen{{Kind: "full", Last: now, Seconds: 3}},
		},
		Drill: &messages.DrillSeen{Began: now, Seconds: 5, LastSuccess: now},
	}
	var got []string
	values := map[string]float64{}
	collectArchives(Status{Archives: []messages.ArchiveStatus{a}}, func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		m := descForm.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s", d)
		}
		names := strings.Split(m[2], ",")
		if len(names) != len(labels) {
			t.Errorf("%s: %d values for %q", m[1], len(labels), names)
		}
		slices.Sort(names)
		what := map[prometheus.ValueType]string{prometheus.GaugeValue: "gauge", prometheus.CounterValue: "counter"}[kind]
		got = append(got, m[1]+" "+what+" "+strings.Join(names, ","))
		values[m[1]] = v
	})
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, archiveMetricNames) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(archiveMetricNames, "\n"))
	}
	if end := values["skyd_recovery_window_end_timestamp_seconds"]; end != unixSeconds(now) {
		t.Errorf("the window ends at %f, want what the receiver stored, %f", end, unixSeconds(now))
	}
}
