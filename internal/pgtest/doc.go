// Package pgtest gives tests a real PostgreSQL: a fresh database for each
// test, whole servers to kill, and a network that breaks on demand.
//
// # Where the server comes from
//
// The first of these that is there:
//
//  1. SKYD_TEST_DSN: a running server; its role must be superuser.
//  2. Server binaries on the machine, found and run by package pgserver.
//  3. Docker: image SKYD_TEST_IMAGE, by default the public postgres image.
//
// With none of them a test is skipped; with SKYD_TEST_REQUIRE=1 it fails, so
// that a gate cannot be green for want of a database.
//
// # Databases
//
// One server serves all tests of one test binary; it starts with the first
// test that asks and must be stopped by the binary's TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// [DB], [Empty] and [Extension] copy a template database, about a tenth of a
// second each, and drop the copy when the test ends. Tests may run in
// parallel. Every connection to such a database, whoever opens it, starts
// with an empty search_path: SQL that leans on one fails here and not at the
// user's. Roles belong to the server, not to the database: use
// [Database.Role] for roles with names of their own.
//
// # Faults
//
// [NewCluster] is a private server to stop, kill, freeze and restart.
// [NewProxy] sits between client and server and freezes, delays, cuts,
// resets or refuses. [Eventually] waits for a fact with a deadline; nothing
// in tests sleeps.
//
// A leak check (goleak) belongs after Main's stop of the server; a test that
// checks for leaks while the server runs ignores the goroutine that waits
// for it with goleak.IgnoreCurrent.
package pgtest
