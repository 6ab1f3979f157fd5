// Package bench measures skyd's queues against the physical limit and against other queues on the same server.
//
// It hides how such a measurement stays fair. A table has sections; in a section several contenders do the same work.
// Rounds are interleaved (A, B, C, then B, C, A ...), after one round that does not count, so a machine that is slow
// for a while is slow for everybody. Every contender has a database of its own, made for the run and dropped at its
// end, and gets emptied tables before each round. What was delivered is counted; a missing event is an error, not a
// figure. A ratio is the median of the ratios of each round, never a quotient of two medians.
//
// # Words
//
//	limit      what PostgreSQL alone needs for the same rows: a raw INSERT, a COPY, one SELECT
//	peer       another queue; where the machine does not have it, its row says so
//	reference  the row of a section that the printed ratios divide by
//	must       a bound on a ratio that the project promises; a check tells whether this run kept it
//
// # What is measured
//
// Wall clock by this process, WAL by the server's insert position, CPU of all processes of the server by the kernel
// when the server runs on this machine and its processes can be seen, else not at all. The server is best quiet
// otherwise: what others do on it is counted with what we do.
//
// # What it does not do
//
// It does not tune the server, and it does not keep results: it returns a Report.
package bench
