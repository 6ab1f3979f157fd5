package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// controlFile is written last: without it a server does not start.
const controlFile = "global/pg_control"

// restoreRun is one restore under way.
type restoreRun struct {
	repo  *Repo
	p     *RestorePlan
	uid   int // owner of what is made; -1: whoever we are
	gid   int
	root  string
	files map[string]*restoreFile
	dirs  []string
}

// Restore does what was planned. Until it is complete the data directory has no pg_control, so that no server can start
// in it; a restore that was killed goes on with DestDelta.
func (r *Repo) Restore(ctx context.Context, p *RestorePlan) error {
	run := &restoreRun{repo: r, p: p, root: filepath.Clean(p.o.Dest), files: map[string]*restoreFile{}, uid: -1, gid: -1}
	run.adoptOwner()
	if err := p.checkDest(); err != nil { // it may have changed since the plan was made
		return err
	}
	if err := run.prepare(); err != nil {
		return fmt.Errorf("restore %s: %w", run.root, err)
	}
	if err := run.fill(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
		return fmt.Errorf("restore %s: %w (it cannot be started; go on with --delta)", run.root, err)
	}
	return nil
}

// adoptOwner finds whose directory it is to be when we are root: PostgreSQL refuses to run as root.
func (run *restoreRun) adoptOwner() {
	if os.Geteuid() != 0 {
		return
	}
	for dir := run.root; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
			run.uid, run.gid = int(s.Uid), int(s.Gid)
		}
		return
	}
}

// own gives a file to the owner of the cluster.
func (run *restoreRun) own(path string) error {
	if run.uid < 0 {
		return nil
	}
	return os.Lchown(path, run.uid, run.gid)
}

// prepare clears the way: what is there is renamed, removed, or made unable to start.
func (run *restoreRun) prepare() error {
	p := run.p
	if !emptyDir(run.root) {
		switch p.o.Existing {
		case DestAside:
			if err := os.Rename(run.root, p.Aside); err != nil {
				return err
			}
		case DestReplace:
			if err := run.clear(); err != nil {
				return err
			}
		}
	}
	if err := run.makeDir(run.root, 0o700); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(run.root, controlFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	marker := fmt.Sprintf("{\"backup\": %q, \"started\": %q}\n", p.Backup.ID, time.Now().UTC().Format(time.RFC3339))
	if err := writeSynced(filepath.Join(run.root, restoreMarker), []byte(marker)); err != nil {
		return err
	}
	return syncPath(run.root)
}

// clear removes the content of the old data directory, pg_control first, and of the tablespaces' directories.
func (run *restoreRun) clear() error {
	if err := os.Remove(filepath.Join(run.root, controlFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dirs := []string{run.root}
	for _, dir := range run.p.Spaces {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if dir != run.root && !strings.HasPrefix(e.Name(), "PG_") {
				return fmt.Errorf("%w: %s in the directory of a tablespace is nothing of PostgreSQL", ErrDest, filepath.Join(dir, e.Name()))
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeDir makes a directory with its parents.
func (run *restoreRun) makeDir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := run.makeDir(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		if info, serr := os.Stat(path); serr == nil && info.IsDir() {
			return run.own(path)
		}
		if run.p.o.Existing != DestDelta {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	if err != nil {
		return err
	}
	return run.own(path)
}

// fill writes everything: files, settings, signal, and at last pg_control.
func (run *restoreRun) fill(ctx context.Context) error {
	if err := run.links(); err != nil {
		return err
	}
	if err := run.list(ctx); err != nil {
		return err
	}
	if run.p.o.Existing == DestDelta {
		if err := run.removeExtras(); err != nil {
			return err
		}
	}
	if err := run.copyFiles(ctx); err != nil {
		return err
	}
	if err := run.configure(); err != nil {
		return err
	}
	if err := syncPath(run.root); err != nil { // the settings and the signal
		return err
	}
	return run.finish()
}

// links makes the directories of the tablespaces and the links to them.
func (run *restoreRun) links() error {
	for oid, dir := range run.p.Spaces {
		if err := run.makeDir(dir, 0o700); err != nil {
			return err
		}
		link := filepath.Join(run.root, "pg_tblspc", oid)
		if err := run.makeDir(filepath.Dir(link), 0o700); err != nil {
			return err
		}
		if err := os.RemoveAll(link); err != nil { // a link, never what it leads to
			return err
		}
		if err := os.Symlink(dir, link); err != nil {
			return err
		}
		if err := run.own(link); err != nil {
			return err
		}
		run.dirs = append(run.dirs, dir, filepath.Dir(link))
	}
	return nil
}

// list reads what belongs into the directory, and makes the directories.
func (run *restoreRun) list(ctx context.Context) error {
	return readFiles(ctx, run.repo, run.p.Backup, func(e *fileEntry) error {
		if !cleanPath(e.Path) {
			return fmt.Errorf("the list of files names %q: %w", e.Path, ErrDamaged)
		}
		path := filepath.Join(run.root, e.Path)
		if e.Type == entryDir {
			run.dirs = append(run.dirs, path)
			return run.makeDir(path, fs.FileMode(e.Mode))
		}
		if e.BlockSize <= 0 || int64(len(e.Blocks)) != (e.Size+int64(e.BlockSize)-1)/int64(e.BlockSize) {
			return fmt.Errorf("the list of files has %d blocks for %s: %w", len(e.Blocks), e.Path, ErrDamaged)
		}
		if e.Path == controlFile {
			path += restoreSuffix
		}
		run.files[path] = &restoreFile{entry: *e, path: path}
		return nil
	})
}

// restoreSuffix is behind the name of pg_control until everything else is durable.
const restoreSuffix = ".skyd"

// removeExtras removes what is in the directory and not in the backup, all WAL included.
func (run *restoreRun) removeExtras() error {
	wanted := map[string]bool{run.root: true, filepath.Join(run.root, restoreMarker): true, filepath.Join(run.root, "pg_tblspc"): true}
	for path := range run.files {
		wanted[path] = true
	}
	for _, dir := range run.dirs {
		wanted[dir] = true
	}
	roots := []string{run.root}
	for oid, dir := range run.p.Spaces {
		wanted[filepath.Join(run.root, "pg_tblspc", oid)], wanted[dir] = true, true
		roots = append(roots, filepath.Join(run.root, "pg_tblspc", oid)+"/.")
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if wanted[filepath.Clean(path)] {
				return nil
			}
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// configure writes the settings of recovery and the signal file.
func (run *restoreRun) configure() error {
	p := run.p
	write := func(name, text string) error {
		path := filepath.Join(run.root, name)
		if err := writeSynced(path, []byte(text)); err != nil {
			return err
		}
		return run.own(path)
	}
	if p.o.ConfigFrom != "" {
		text, err := os.ReadFile(p.o.ConfigFrom)
		if err != nil {
			return err
		}
		if err := write("postgresql.conf", string(text)); err != nil {
			return err
		}
	}
	old, err := os.ReadFile(filepath.Join(run.root, "postgresql.auto.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := write("postgresql.auto.conf", p.autoConf(string(old))); err != nil {
		return err
	}
	for _, name := range []string{"recovery.signal", "standby.signal"} {
		if name == p.Signal {
			continue
		}
		if err := os.Remove(filepath.Join(run.root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return write(p.Signal, "")
}

// finish puts pg_control in place: from now on the server can start.
func (run *restoreRun) finish() error {
	control := filepath.Join(run.root, controlFile)
	if err := os.Rename(control+restoreSuffix, control); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(control)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(run.root, restoreMarker)); err != nil {
		return err
	}
	return syncPath(run.root)
}

// sortedFiles are the files in the order of their paths.
func (run *restoreRun) sortedFiles() []*restoreFile {
	list := make([]*restoreFile, 0, len(run.files))
	for _, f := range run.files {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *restoreFile) int { return strings.Compare(a.path, b.path) })
	return list
}
