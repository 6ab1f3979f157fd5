package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
)

// TestReadme runs the snippets of the README in their order, against a daemon
// started the way the README starts it.
func TestReadme(t *testing.T) {
	t.Parallel()
	snippets := readmeSnippets(t)
	dsn := emptyDSN(t)
	skyd(t, "schema", "install", "--db", dsn)
	d := daemon(t, "run", "--db", dsn)
	conn := connect(t, dsn)
	run := func(sql string) []*pgconn.Result {
		t.Helper()
		results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return results
	}

	run(snippets["queue"])
	run(snippets["produce"])

	// The three statements of a consumer: ask until there is a batch with the
	// events, read it, close it.
	consume := strings.SplitN(snippets["consume"], ";", 2)
	var types []string
	pgtest.Eventually(t, time.Minute, "the README's events", func() bool {
		d.alive()
		number := scan[*string](t, conn, "select ("+consume[0]+")::text")
		if number == nil {
			return false
		}
		for _, result := range run(strings.ReplaceAll(consume[1], ":batch", *number)) {
			for _, row := range result.Rows {
				if len(row) == 3 {
					types = append(types, string(row[1]))
				}
			}
		}
		return len(types) >= 2
	})
	if got := strings.Join(types, " "); got != "new U:id" {
		t.Errorf("the README's consumer got events %s, want new U:id", got)
	}

	p := background(t, []string{"DSN=" + dsn}, goProgram(t, snippets["go"]))
	pgtest.Eventually(t, time.Minute, "the README's Go consumer prints its own event", func() bool {
		p.alive()
		return strings.Contains(p.out.String(), `new {"order": 2}`)
	})
}

// readmeSnippets are the code blocks that are marked with a test's name.
func readmeSnippets(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- test: (\\w+) -->\n```\\w+\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = m[2]
	}
	for _, name := range []string{"queue", "produce", "consume", "go"} {
		if found[name] == "" {
			t.Fatalf("README.md has no snippet marked <!-- test: %s -->", name)
		}
	}
	return found
}

// goProgram builds a program that uses this module.
func goProgram(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("build the README's program: %v\n%s", err, out)
	}
	return program
}
