package pgq_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
)

// skipExamples keeps examples from failing where no server can be had; unlike
// tests they cannot skip themselves.
func skipExamples() {
	if os.Getenv("SKYD_TEST_DSN") != "" || os.Getenv("SKYD_TEST_REQUIRE") == "1" {
		return
	}
	if _, err := pgserver.Find(); err != nil {
		_ = flag.Set("test.skip", "^Example") // the flag exists in every test binary
	}
}

// database returns the DSN of a database with skyd's SQL for one example, and
// what removes it.
func database() (dsn string, remove func()) {
	tb := &exampleTB{}
	return pgtest.DB(tb).DSN, tb.cleanup
}

// exampleTB lets an example use what is made for tests.
type exampleTB struct {
	testing.TB
	after []func()
}

func (*exampleTB) Helper()                      {}
func (*exampleTB) Name() string                 { return "Example" }
func (*exampleTB) Context() context.Context     { return context.Background() }
func (*exampleTB) Log(args ...any)              { fmt.Fprintln(os.Stderr, args...) }
func (*exampleTB) Logf(f string, args ...any)   { fmt.Fprintf(os.Stderr, f+"\n", args...) }
func (*exampleTB) Error(args ...any)            { panic(fmt.Sprint(args...)) }
func (*exampleTB) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (*exampleTB) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (*exampleTB) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (*exampleTB) Skip(args ...any)             { panic(fmt.Sprint(args...)) }
func (*exampleTB) Skipf(f string, args ...any)  { panic(fmt.Sprintf(f, args...)) }
func (e *exampleTB) Cleanup(f func())           { e.after = append(e.after, f) }
func (e *exampleTB) cleanup() {
	for i := len(e.after) - 1; i >= 0; i-- {
		e.after[i]()
	}
}
