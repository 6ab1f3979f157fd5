// Package pgqsql holds the SQL of skyd's schemas and puts it into a database.
//
// # The tree
//
// sql/<schema>/install.txt lists the files of one schema in execution order; a line starting with '#' is a heading of
// the generated documentation. There are two kinds of SQL:
//
//	shape  tables.sql            the schema as a fresh install has it; run once, when the schema is not installed yet
//	       upgrade/NNNN_x.sql    forward-only changes of an older shape; run once each, in order. A fresh install
//	                             records them as done without running them, because tables.sql has that shape already
//	code   everything else       functions, triggers, grants; re-applied whole when the content changed or when the
//	                             function in the catalog is no longer the one that was installed
//
// One file functions/<name>.sql holds one function name with all its overloads; [Inspect] relies on it when it says
// which file a changed function belongs to. grants.sql is run whenever any other file of its schema was.
//
// # What the installer guarantees
//
// [Install] is one transaction under a transaction-level advisory lock: after an error, a crash or a lost connection
// the database is as it was. A second run finds nothing to do, writes nothing and says so. Schema skyd records each
// file with the hash of what was sent to the server, and each function with a fingerprint of what the catalog made of
// it. Server errors are reported as file:line:column ([FileError]).
//
// A schema has one of five owners:
//
//	missing    not there, or empty: will be installed
//	skyd       installed by us: kept up to date
//	extension  belongs to an extension, for PgQ the original one in C: used as it is, not touched without FromExtension
//	original   a plain-SQL install of the original PgQ: refused, or taken over in place with [Options].TakeOver
//	foreign    anything else of that name: refused
//
// One unit is a guest: pgq_plus, what skyd adds to PgQ, lives in schema pgq beside its owner's objects, also when that
// is the extension. It is ours wherever our records name one of its functions that exists.
//
// Records whose schema was dropped are leftovers: the schema counts as missing and is installed afresh. A database
// that has upgrade scripts this program does not know was installed by a newer skyd and is refused as well.
//
// A takeover compares the schema with a fresh install, made and undone inside a savepoint, and changes what differs:
// tables keep their rows, functions are replaced under the triggers and views that use them. [legacyOf] knows what older
// versions had; what nobody knows is kept, or refused where it would be in the way.
//
// [Bundle] gives the same as one script for psql; it leaves the same records.
//
// # What it does not do
//
// It knows nothing about queues, it drops nothing but what a takeover replaces, and it does not compare tables with their definition.
//
//go:generate go test -count=1 -run TestGenerate_FilesAreFresh . -generate
package pgqsql
