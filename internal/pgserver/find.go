package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"time"
)

// MinMajor is the oldest major version of PostgreSQL that Find accepts.
const MinMajor = 14

// ErrNotFound is returned by Find when no usable server is on the machine.
var ErrNotFound = errors.New("no PostgreSQL server binaries found")

// Binaries is one installation of the PostgreSQL server programs.
type Binaries struct {
	// Dir holds initdb and postgres.
	Dir string
	// Major is the major version, such as 17.
	Major int
	// Version is the whole answer of postgres --version.
	Version string
}

// Find looks for initdb and postgres: in the directory SKYD_PG_BIN names (then
// nowhere else), in PATH, and in the places distributions put them, where the
// newest version wins. It returns ErrNotFound, wrapped with what was looked
// at, when there is none of version MinMajor or later.
func Find() (Binaries, error) {
	if dir := os.Getenv("SKYD_PG_BIN"); dir != "" {
		b, err := inspect(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("SKYD_PG_BIN: %w", err)
		}
		return b, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			if b, err := inspect(filepath.Dir(target)); err == nil {
				return b, nil
			}
		}
	}
	var found []Binaries
	for _, pattern := range packagePatterns {
		dirs, _ := filepath.Glob(pattern) // the only error is a bad pattern
		for _, dir := range dirs {
			if b, err := inspect(dir); err == nil {
				found = append(found, b)
			}
		}
	}
	if len(found) == 0 {
		return Binaries{}, fmt.Errorf("%w of version %d or later: not in PATH, not where packages put them; install PostgreSQL or set SKYD_PG_BIN", ErrNotFound, MinMajor)
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].Major > found[j].Major })
	return found[0], nil
}

// packagePatterns are the directories of Debian and Ubuntu, the PGDG packages
// for Red Hat, Alpine, and Homebrew and Postgres.app on macOS.
var packagePatterns = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

var versionNumber = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect asks the programs in dir for their version.
func inspect(dir string) (Binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return Binaries{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: %w", filepath.Join(dir, "postgres"), err)
	}
	m := versionNumber.FindSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("%s says %q, which is no version of PostgreSQL", dir, out)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Binaries{}, err
	}
	if major < MinMajor {
		return Binaries{}, fmt.Errorf("%s is PostgreSQL %d, at least %d is needed", dir, major, MinMajor)
	}
	return Binaries{Dir: dir, Major: major, Version: string(bytes.TrimSpace(out))}, nil
}

// Command prepares one of the programs in Dir, such as "pg_basebackup", to run
// as the operating system user the servers of this package run as. Its
// environment has none of the PG variables of this process.
func (b Binaries) Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.Dir, name), args...)
	cmd.Env = serverEnv()
	setAccount(cmd, acc)
	return cmd, nil
}
