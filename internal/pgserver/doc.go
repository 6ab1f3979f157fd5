// Package pgserver runs a throw-away PostgreSQL from the server binaries that
// are already on the machine.
//
// It exists for everything that needs a whole server of its own for a while:
// the tests (through package pgtest), the demo, and later restore drills. It
// hides four nuisances:
//
//   - PostgreSQL refuses to run as root. A root process drops to the operating
//     system user postgres, else nobody, for the server alone, and takes care
//     that the server can reach its files.
//   - initdb takes seconds. It runs once for each build of PostgreSQL; its
//     result is kept as one file in the temporary directory and unpacked for
//     every new [Cluster]. The file appears by rename, so processes that start
//     at the same time never see half of it.
//   - Every backend of PostgreSQL is a session of its own, so signalling the
//     process group reaches the postmaster alone. [Cluster.Kill] and
//     [Cluster.Freeze] walk the process tree instead.
//   - The owner may be killed. On Linux the server then receives SIGINT from
//     the kernel; elsewhere, and for what stays on disk, the next New sweeps
//     up: each directory holds a lock its owner keeps for as long as it lives.
//
// Life of a cluster: [Find], [New] (on disk, not running), [Cluster.Start],
// any sequence of Stop, Kill, Freeze, Thaw and Start, [Cluster.Remove]. The
// port is chosen by New and stays the same over restarts. All methods are safe
// for concurrent use.
//
// The server trusts every connection from 127.0.0.1 and runs without fsync
// unless asked. It is not for data that matters, nor for machines whose local
// users are not trusted.
package pgserver
