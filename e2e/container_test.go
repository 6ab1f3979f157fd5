package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestContainer_KillAndRestartKeepData: the tests that follow rely on servers
// in Docker behaving as servers from binaries do.
func TestContainer_KillAndRestartKeepData(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, majors[0])
	dsn := server.DSN("postgres")
	exec1(t, connect(t, dsn), "create table public.kept as select 1 as a")
	server.Kill()
	if _, err := pgx.Connect(t.Context(), dsn); err == nil {
		t.Error("a killed server answers")
	}
	server.Start()
	server.Restart()
	server.Freeze()
	server.Thaw()
	if n := scan[int](t, connect(t, dsn), "select a from public.kept"); n != 1 {
		t.Errorf("after kill and restart: %d", n)
	}
}
