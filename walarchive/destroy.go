package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DestroyReport is what a destroy removed, or would remove.
type DestroyReport struct {
	Backups int   `json:"backups"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// setUp tells that a server was set up to archive here, and that this was not taken back.
	setUp bool
	keys  []string
}

// SetUp tells whether a server was told to archive here (Setup) and not told otherwise since (Unsetup).
func (d *DestroyReport) SetUp() bool { return d.setUp }

// PlanDestroy counts everything that the repository holds of the source. It is refused while somebody works there.
// ErrLeased; ErrNotFound when there is nothing.
func (r *Repo) PlanDestroy(ctx context.Context, now time.Time) (*DestroyReport, error) {
	d := &DestroyReport{}
	for o, err := range r.List(ctx, r.Source+"/", "") {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(o.Key, r.Source+"/leases/") {
			rec, _, err := readLease(ctx, r, o.Key)
			if err != nil {
				return nil, err
			}
			if rec.held(now) {
				return nil, fmt.Errorf("%w: %s on %s since %s (%s)", ErrLeased, rec.Owner, rec.Host, rec.Started.Format(time.RFC3339), o.Key)
			}
		}
		d.Objects++
		d.Bytes += o.Size
		d.keys = append(d.keys, o.Key)
		if r.isCommit(o.Key) {
			d.Backups++
		}
		d.setUp = d.setUp || o.Key == r.setupKey()
	}
	if d.Objects == 0 {
		return nil, fmt.Errorf("source %s: %w: nothing of it is in %s", r.Source, ErrNotFound, r.Storage)
	}
	return d, nil
}

// Destroy removes what PlanDestroy found, and what a receiver keeps in stateDir ("": nothing). The records of the backups
// go first and the record of the clusters last, so that a run that was killed leaves nothing that can be restored, and the
// next one goes on.
func (r *Repo) Destroy(ctx context.Context, d *DestroyReport, stateDir string) error {
	order := func(key string) int {
		switch {
		case r.isCommit(key):
			return 0
		case key == r.ClusterKey():
			return 2
		}
		return 1
	}
	for stage := range 3 {
		mine := slices.DeleteFunc(slices.Clone(d.keys), func(key string) bool { return order(key) != stage })
		for part := range slices.Chunk(mine, 500) {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if err := r.Delete(ctx, part...); err != nil {
				return err
			}
		}
	}
	if stateDir == "" {
		return nil
	}
	var errs []error
	for _, name := range []string{"receive", "paused.json", "dropped", "periodic.json"} {
		errs = append(errs, os.RemoveAll(filepath.Join(stateDir, name)))
	}
	return errors.Join(errs...)
}

// isCommit tells whether a key is that of the record of a backup.
func (r *Repo) isCommit(key string) bool {
	return strings.HasPrefix(key, r.BackupPrefix("")) && strings.HasSuffix(key, "/backup.json")
}
