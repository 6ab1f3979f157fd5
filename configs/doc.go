// Package configs reads the one configuration of skyd.
//
// Order, later wins: built-in defaults (DefaultConfig), the file and then conf.d/*.yaml beside it in name order, the
// environment (SKYD_HTTP__LISTEN is http.listen), flags. Lists of databases in several files add up; everything else is
// replaced key by key. The sections ticker and maintenance and the key check_period may stand at the top and inside a
// database: the database's own keys win over those at the top.
//
// Reading is strict: an unknown key, a wrong type, a duplicate key or name is a fault with file and line and, where
// there is one, the key that was probably meant. All faults are reported at once, as Faults.
//
// Nothing but this package reads the environment or a configuration file, and nothing keeps a pointer to the whole
// Config. Secrets never leave through String, Masked or an error.
package configs

//go:generate go run ../cmd/skyd config reference --to ../docs/config.md
