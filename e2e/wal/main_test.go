package wal_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// programs is the directory with skyd and skyd-wal, built by TestMain, which the server's user can reach.
var programs string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("/tmp", "skyd-e2e-wal-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		programs = dir
		if err = os.Chmod(dir, 0o755); err == nil {
			err = build(dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/wal:", err)
		return 1
	}
	return pgtest.Main(m)
}

// build makes the programs.
func build(dir string) error {
	// The cache of test results sees the files that a test looked at, not those that its children did.
	err := filepath.WalkDir("../..", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"skyd", "skyd-wal"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "../../cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}
