package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// asProgram is the environment variable that makes the test binary be skyd.
const asProgram = "SKYD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main() // does not return
	}
	os.Exit(pgtest.Main(m))
}

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// skyd runs the program.
func skyd(t testing.TB, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), &out, &err)
	return result{code, out.String(), err.String()}
}

func TestRun_UsageErrorsAreOneLineAndExit2(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"bogus":                                `skyd: unknown command "bogus" for "skyd"`,
		"schema":                               "skyd: skyd schema needs one of: harden, install, print, status, upgrade",
		"schema instal":                        `skyd: unknown command "instal" for "skyd schema"; it has: harden, install, print, status, upgrade`,
		"schema install":                       "skyd: which database? give --db DSN, for example --db postgres://user@host/name",
		"schema install --db postgres://h:p/x": "skyd: open database",
		"schema install x":                     `skyd: unknown command "x" for "skyd schema install"`,
		"schema status --db a --db b":          "skyd: --db given 2 times; this command works on one database",
		"version --output xml":                 `skyd: --output must be table, json or yaml (got "xml")`,
		"version --log-format xml":             `skyd: --log-format must be text or json (got "xml")`,
		"version --timeout -1s":                "skyd: --timeout must not be negative (got -1s)",
		"version --nope":                       "skyd: unknown flag: --nope",
		"schema print --only nope":             `skyd: no schema "nope" here; there are: pgq`,
	} {
		r := skyd(t, strings.Fields(args)...)
		if r.code != exitUsage || r.stdout != "" || !strings.HasPrefix(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("skyd %s: got %+v, want exit 2 and %s", args, r, want)
		}
	}
}

func TestRun_ErrorsAreJSONOnRequest(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"schema", "install", "-o", "json"}, {"--output=json", "schema", "instal"}, {"version", "--nope", "-ojson"}} {
		r := skyd(t, args...)
		var doc map[string]map[string]string
		if err := json.Unmarshal([]byte(r.stderr), &doc); err != nil || r.code != exitUsage || doc["error"]["code"] != "usage" ||
			doc["error"]["message"] == "" {
			t.Errorf("skyd %v: got %+v, want a usage error as JSON", args, r)
		}
	}
}

func TestRun_VersionInThreeFormats(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{"version": "skyd ", "version -o json": "{\n  \"version\": ", "version -o yaml": "version: "} {
		if r := skyd(t, strings.Fields(args)...); r.code != exitOK || !strings.HasPrefix(r.stdout, want) || r.stderr != "" {
			t.Errorf("skyd %s: got %+v, want %q", args, r, want)
		}
	}
}

func TestRun_ConnectErrorsExit3AndHideThePassword(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	for _, dsn := range []string{
		"postgres://joe:topsecret@127.0.0.1:1/app",
		"host=127.0.0.1 port=1 user=joe password=topsecret",
		"postgres://joe:topsecret@no-such-host.invalid/app",
		strings.Replace(db.DSN, db.Name, "no_such_database", 1),
	} {
		for _, verb := range []string{"install", "status", "upgrade"} {
			r := skyd(t, "schema", verb, "--db", dsn, "--timeout", "10s")
			if r.code != exitConnect || r.stdout != "" || strings.Contains(r.stderr, "topsecret") ||
				strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "skyd: cannot use database ") {
				t.Errorf("schema %s --db %s: got %+v, want one line and exit 3", verb, dsn, r)
			}
		}
	}
}

func TestExitCode_FollowsTheCause(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		exitOK:                            nil,
		exitFailed:                        errors.New("x"),
		exitUsage:                         fmt.Errorf("a: %w", usageError("x")),
		exitTimeout:                       fmt.Errorf("a: %w", context.DeadlineExceeded),
		exitRefused:                       withExit(exitRefused, "", errors.New("x")),
		exitSignal + int(syscall.SIGINT):  &signalError{syscall.SIGINT},
		exitSignal + int(syscall.SIGTERM): fmt.Errorf("%w: %w", &signalError{syscall.SIGTERM}, usageError("x")),
		exitConnect:                       sqlStateError("28P01"),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}

// sqlStateError is an error of a server.
type sqlStateError string

func (e sqlStateError) Error() string    { return "server says " + string(e) }
func (e sqlStateError) SQLState() string { return string(e) }

func TestRun_ASignalGivesItsExitCode(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGINT})
	var out, errs bytes.Buffer
	code := run(ctx, []string{"schema", "status", "--db", pgtest.Empty(t).DSN, "-o", "json"}, nil, &out, &errs)
	if code != 130 || !strings.Contains(errs.String(), `"code":"interrupted"`) {
		t.Errorf("got %d %s, want 130", code, errs.String())
	}
}
