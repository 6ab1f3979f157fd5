// Package drill proves that an archive can be restored: it restores a cluster into a throw-away server, lets it recover to
// the end, and looks through all of it.
package drill
