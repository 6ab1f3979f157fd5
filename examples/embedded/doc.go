// Command embedded is a program with the daemon inside: ticker, maintenance,
// supervision, leases, metrics and traces of skyd run, and a handler in Go
// beside those of a configuration. It mails about the orders of the producer;
// run it twice, and one of them works while the other one waits for its lease.
//
//	go run ./examples/embedded
package main
