// Package wire is what the small client of push and fetch and the daemon say to each other, and how exit codes are kept
// honest. It uses nothing but the standard library, so that the client starts in a millisecond.
//
// One connection to the unix socket carries one request, a line of JSON, and its answer, lines of JSON: any number with
// wait, as signs of life, and one with done. The version is that of the request; a daemon answers every version that there
// ever was, and says direct when it cannot: then the caller does the work himself.
//
// PostgreSQL takes exit codes 1 to 125 of a restore_command for the end of the archive, and 0 of an archive_command for a
// segment that is safe. A crash, a killed process and a usage error have such codes too. So whoever does the work in
// another process believes its exit code only together with a verdict, which the process writes as its last act to a
// pipe: see Run and Verdict.
package wire
