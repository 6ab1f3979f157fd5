package pgqsql_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
)

var (
	server  *pgserver.Cluster
	counter atomic.Int64
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	b, err := pgserver.Find()
	if err == nil {
		server, err = pgserver.New(ctx, b, pgserver.Options{})
	}
	if err == nil {
		err = server.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func emptyDB(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", counter.Add(1))
	conn := connect(t, server.DSN("postgres"))
	if _, err := conn.Exec(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	return server.DSN(name)
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
