package walarchive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// restoreMarker is in a data directory while it is being restored.
const restoreMarker = "skyd-restore.json"

// place decides where the tablespaces go.
func (p *RestorePlan) place() error {
	if !filepath.IsAbs(p.o.Dest) {
		return fmt.Errorf("%w: %s is no absolute path", ErrDest, p.o.Dest)
	}
	used := map[string]bool{}
	for _, s := range p.Backup.Spaces {
		dir := ""
		for _, key := range []string{s.Name, s.OID, s.Location} {
			if to, ok := p.o.Spaces[key]; ok && key != "" {
				dir, used[key] = to, true
				break
			}
		}
		if dir == "" && p.o.SpacesDir != "" {
			dir = filepath.Join(p.o.SpacesDir, s.OID)
		}
		if dir == "" {
			dir = s.Location
		}
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%w: the directory of tablespace %s must be absolute (got %q)", ErrDest, spaceName(s), dir)
		}
		if p.Spaces == nil {
			p.Spaces = map[string]string{}
		}
		p.Spaces[s.OID] = filepath.Clean(dir)
	}
	for key := range p.o.Spaces {
		if !used[key] {
			return fmt.Errorf("%w: the backup has no tablespace %q", ErrOptions, key)
		}
	}
	return nil
}

// spaceName names a tablespace for people.
func spaceName(s Tablespace) string {
	if s.Name != "" {
		return s.Name
	}
	return s.OID
}

// checkDest refuses a destination that is in use, of another cluster, or not empty without the word.
func (p *RestorePlan) checkDest() error {
	switch p.o.Existing {
	case DestEmpty, DestDelta, DestAside, DestReplace:
	default:
		return fmt.Errorf("%w: %q is none of delta, aside, replace", ErrOptions, p.o.Existing)
	}
	if err := checkEmpty(p.o.Dest, p.o.Existing); err != nil {
		return err
	}
	if pid, ok := livePostmaster(p.o.Dest); ok {
		return fmt.Errorf("%w: a server runs in %s (process %d): stop it", ErrDest, p.o.Dest, pid)
	}
	if !emptyDir(p.o.Dest) {
		there, err := ReadCluster(p.o.Dest)
		switch {
		case err == nil && there.System != p.Backup.System:
			return fmt.Errorf("%w: %s belongs to another cluster, system %d; the backup is of system %d", ErrDest, p.o.Dest, there.System, p.Backup.System)
		case err != nil && !exists(filepath.Join(p.o.Dest, restoreMarker)) && !exists(filepath.Join(p.o.Dest, "PG_VERSION")):
			return fmt.Errorf("%w: %s holds something that is no data directory", ErrDest, p.o.Dest)
		}
		if p.o.Existing == DestAside {
			p.Aside = asideName(p.o.Dest)
		}
	}
	for _, space := range p.Backup.Spaces {
		dir, existing := p.Spaces[space.OID], p.o.Existing
		if existing == DestAside || !p.owns(space, dir) {
			existing = DestEmpty // it may be that of a living original
		}
		if err := checkEmpty(dir, existing); err != nil {
			return fmt.Errorf("tablespace %s: %w (--tablespace %s=DIR says where it goes)", spaceName(space), err, spaceName(space))
		}
	}
	return nil
}

// owns tells whether the directory of a tablespace may be written to: it is that of the destination, or was named.
func (p *RestorePlan) owns(space Tablespace, dir string) bool {
	for _, key := range []string{space.Name, space.OID, space.Location} {
		if _, named := p.o.Spaces[key]; named && key != "" {
			return true
		}
	}
	to, err := os.Readlink(filepath.Join(p.o.Dest, "pg_tblspc", space.OID))
	return err == nil && filepath.Clean(to) == dir
}

// checkEmpty refuses a directory that is not empty, unless a word says what happens to it.
func checkEmpty(dir, existing string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDest, err)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is no directory", ErrDest, dir)
	case existing == DestEmpty && !emptyDir(dir):
		return fmt.Errorf("%w: %s is not empty (for a data directory --delta keeps what is the same, --aside renames it, --replace removes it)", ErrDest, dir)
	}
	return nil
}

// emptyDir tells whether a directory is missing or has nothing in it.
func emptyDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// livePostmaster finds the server that runs in a data directory.
func livePostmaster(dir string) (int, bool) {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0, false
	}
	return pid, !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// asideName is the first free name beside a directory: DIR.1, DIR.2, …
func asideName(dir string) string {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.%d", dir, n)
		if !exists(name) {
			return name
		}
	}
}

// recoverySettings are all settings of recovery; those of the original are taken out.
var recoverySettings = regexp.MustCompile(`(?i)^\s*(restore_command|recovery_target\w*|primary_conninfo|primary_slot_name|` +
	`archive_cleanup_command|recovery_end_command|promote_trigger_file|standby_mode|synchronous_standby_names)\s*(=|\s)`)

// settings are the lines that are added to postgresql.auto.conf.
func (p *RestorePlan) settings() []string {
	var lines []string
	set := func(name, value string) { lines = append(lines, name+" = "+quoteSetting(value)) }
	o := p.o
	set("restore_command", o.Command)
	set("recovery_target_timeline", p.targetTimeline())
	switch t := o.Target; {
	case !t.Time.IsZero():
		set("recovery_target_time", t.Time.UTC().Format("2006-01-02 15:04:05.999999+00"))
	case t.LSN > 0:
		set("recovery_target_lsn", t.LSN.String())
	case t.XID != "":
		set("recovery_target_xid", t.XID)
	case t.Name != "":
		set("recovery_target_name", t.Name)
	case t.Immediate:
		set("recovery_target", "immediate")
	}
	if o.Target.count() > 0 {
		action := o.Action
		if action == "" {
			action = "promote"
		}
		set("recovery_target_action", action)
		set("recovery_target_inclusive", map[bool]string{true: "off", false: "on"}[o.Target.Exclusive])
	}
	if o.Standby {
		if o.Conninfo != "" {
			set("primary_conninfo", o.Conninfo)
		}
		if o.Slot != "" {
			set("primary_slot_name", o.Slot)
		}
		set("hot_standby", "on")
	}
	if !o.KeepArchiving {
		set("archive_mode", "off")
	}
	return lines
}

// targetTimeline is recovery_target_timeline: a standby follows the newest one, everything else goes where it was planned.
func (p *RestorePlan) targetTimeline() string {
	if p.o.Standby && (p.o.Timeline == "" || p.o.Timeline == "latest") {
		return "latest"
	}
	return strconv.FormatUint(uint64(p.Timeline), 10)
}

// quoteSetting quotes a value for a configuration file of PostgreSQL.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(value) + "'"
}

// autoConf is the content of postgresql.auto.conf: the old one without settings of recovery, then ours.
func (p *RestorePlan) autoConf(old string) string {
	var text strings.Builder
	names := make([]string, len(p.Settings))
	for i, line := range p.Settings {
		names[i], _, _ = strings.Cut(line, " ")
	}
	for line := range strings.Lines(old) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if recoverySettings.MatchString(line) || slices.Contains(names, name) || strings.HasPrefix(line, restoredBy) {
			continue
		}
		text.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	fmt.Fprintf(&text, "%s from backup %s, %s\n", restoredBy, p.Backup.ID, p.Target)
	for _, line := range p.Settings {
		text.WriteString(line + "\n")
	}
	return text.String()
}

// restoredBy begins the comment above our settings.
const restoredBy = "# restored by skyd"
