package walarchive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cluster is one system identifier that a source had.
type Cluster struct {
	System    uint64    `json:"system_id,string"`
	Major     int       `json:"pg_major"`
	Size      uint32    `json:"segment_size"`
	Checksums bool      `json:"checksums"`
	First     time.Time `json:"first_seen"`
}

// Clusters is cluster.json: every system identifier that the source had, the one in use last.
type Clusters struct {
	Clusters []Cluster `json:"clusters"`
}

// Current is the cluster in use; false when there is none yet.
func (c Clusters) Current() (Cluster, bool) {
	if len(c.Clusters) == 0 {
		return Cluster{}, false
	}
	return c.Clusters[len(c.Clusters)-1], true
}

// Clusters reads cluster.json; none yet is no error.
func (r *Repo) Clusters(ctx context.Context) (c Clusters, err error) {
	_, err = r.getJSON(ctx, r.ClusterKey(), &c)
	if errors.Is(err, ErrNotFound) {
		return c, r.present(ctx)
	}
	return c, err
}

// Enroll makes a cluster the current one of the source, if it is not; changed tells.
func (r *Repo) Enroll(ctx context.Context, c Cluster) (changed bool, err error) {
	var all Clusters
	tag, err := r.getJSON(ctx, r.ClusterKey(), &all)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	for i, known := range all.Clusters {
		if known.System != c.System {
			continue
		}
		if i == len(all.Clusters)-1 && known.Major == c.Major {
			return false, nil
		}
		if i < len(all.Clusters)-1 {
			return false, fmt.Errorf("system %d was followed by another cluster of source %s: give it a source of its own", c.System, r.Source)
		}
		all.Clusters[i].Major = c.Major
		return true, r.putJSON(ctx, r.ClusterKey(), all, tag)
	}
	all.Clusters = append(all.Clusters, c)
	return true, r.putJSON(ctx, r.ClusterKey(), all, tag)
}

// ReadCluster tells which cluster has this data directory, from its files.
func ReadCluster(pgdata string) (Cluster, error) {
	control, err := os.ReadFile(filepath.Join(pgdata, "global", "pg_control"))
	if err != nil {
		return Cluster{}, fmt.Errorf("data directory: %w", err)
	}
	if len(control) < 512 {
		return Cluster{}, fmt.Errorf("data directory %s: its pg_control has only %d bytes", pgdata, len(control))
	}
	version, err := os.ReadFile(filepath.Join(pgdata, "PG_VERSION"))
	if err != nil {
		return Cluster{}, fmt.Errorf("data directory: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(version)))
	if err != nil {
		return Cluster{}, fmt.Errorf("data directory %s: PG_VERSION holds %q", pgdata, version)
	}
	return Cluster{System: binary.LittleEndian.Uint64(control), Major: major, First: time.Now().UTC()}, nil
}

// Writer tells who writes a timeline: a host and a data directory.
type Writer struct {
	Host    string    `json:"host"`
	PGData  string    `json:"pgdata"`
	Device  uint64    `json:"device"`
	Inode   uint64    `json:"inode"`
	From    LSN       `json:"from_lsn"`
	First   time.Time `json:"first_seen"`
	Adopted bool      `json:"adopted,omitempty"`
}

// WriterOf tells who this host with this data directory is.
func WriterOf(pgdata string) (Writer, error) {
	host, err := os.Hostname()
	if err != nil {
		return Writer{}, err
	}
	w := Writer{Host: host, PGData: pgdata, First: time.Now().UTC()}
	info, err := os.Stat(pgdata)
	if err != nil {
		return w, fmt.Errorf("data directory: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		w.Device, w.Inode = uint64(s.Dev), s.Ino
	}
	return w, nil
}

// same reports whether two records are of one writer: the place is the same, or the directory was moved.
func (w Writer) same(o Writer) bool {
	return w.Host == o.Host && (w.PGData == o.PGData || w.Device == o.Device && w.Inode == o.Inode)
}

// String names a writer for people.
func (w Writer) String() string { return w.Host + ":" + w.PGData }

// Writers is the record of a timeline: everybody who wrote it.
type Writers struct {
	System   uint64   `json:"system_id,string"`
	Timeline uint32   `json:"timeline"`
	Writers  []Writer `json:"writers"`
}

// Writers reads the record of a timeline. ErrNotFound.
func (r *Repo) Writers(ctx context.Context, system uint64, timeline uint32) (w Writers, err error) {
	_, err = r.getJSON(ctx, r.WriterKey(system, timeline), &w)
	return w, err
}

// addWriter notes a writer of a timeline. It gives all that are known then.
func (r *Repo) addWriter(ctx context.Context, system uint64, timeline uint32, w Writer) (Writers, error) {
	key := r.WriterKey(system, timeline)
	for {
		all := Writers{System: system, Timeline: timeline}
		tag, err := r.getJSON(ctx, key, &all)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return all, err
		}
		for _, known := range all.Writers {
			if known.same(w) {
				return all, nil
			}
		}
		all.Writers = append(all.Writers, w)
		err = r.putJSON(ctx, key, all, tag)
		if err == nil || !errors.Is(err, ErrChanged) && !errors.Is(err, ErrExists) {
			return all, err
		}
	}
}

// Gap is a part of the WAL that is known not to be in the archive.
type Gap struct {
	System   uint64    `json:"system_id,string,omitempty"` // 0 in old records: the cluster in use
	Timeline uint32    `json:"timeline"`
	From     LSN       `json:"from_lsn"`
	To       LSN       `json:"to_lsn"` // 0: not known yet
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
	ClosedBy string    `json:"closed_by,omitempty"` // the backup that makes it harmless, or how it was filled
}

// gapKey is the key of a gap record.
func (l Layout) gapKey(g Gap) string {
	return fmt.Sprintf("%s%08X-%016X-%016X.json", l.GapsPrefix(), g.Timeline, uint64(g.From), uint64(g.To))
}

// RecordGap makes a gap known, and runs the hook on_gap, whose failure does not matter. Recording it again changes
// nothing.
func (r *Repo) RecordGap(ctx context.Context, g Gap) error {
	err := r.putJSON(ctx, r.gapKey(g), g, "")
	if errors.Is(err, ErrExists) {
		return nil
	}
	if err == nil {
		_ = r.runHook(ctx, "on_gap", r.hooks.OnGap, gapLimit, fmt.Sprintf("SKYD_GAP_TIMELINE=%d", g.Timeline),
			"SKYD_GAP_FROM="+g.From.String(), "SKYD_GAP_TO="+g.To.String(), "SKYD_GAP_REASON="+g.Reason)
	}
	return err
}

// Gaps lists the known gaps, closed ones too.
func (r *Repo) Gaps(ctx context.Context) (gaps []Gap, err error) {
	for o, err := range r.List(ctx, r.GapsPrefix(), "") {
		if err != nil {
			return nil, err
		}
		var g Gap
		if _, err := r.getJSON(ctx, o.Key, &g); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		} else if err == nil {
			gaps = append(gaps, g)
		}
	}
	return gaps, nil
}

// CloseGap notes why a gap matters no more.
func (r *Repo) CloseGap(ctx context.Context, g Gap, by string) error {
	var now Gap
	tag, err := r.getJSON(ctx, r.gapKey(g), &now)
	if err != nil || now.ClosedBy != "" {
		return err
	}
	now.ClosedBy = by
	return r.putJSON(ctx, r.gapKey(g), now, tag)
}

// exists reports whether a file is there.
func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}
