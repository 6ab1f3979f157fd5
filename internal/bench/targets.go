package bench

import "fmt"

// targets are the bounds that the project promises for its queues. Where CPU can be measured it is judged, not the clock
// on the wall, unless the promise is about speed. Ratios are those of one run. Bounds in milliseconds or in shares of a core depend on the machine and never fail.
func targets() []target {
	all := insertTargets()
	all = append(all, captureTargets()...)
	all = append(all, drainTargets()...)
	all = append(all, latencyTargets()...)
	for _, queues := range fullSizes.idleQueues {
		t := target{table: tableIdle, section: idleSection(queues), row: rowSkydRun}
		wal, xids, cpu := t, t, t
		wal.name, wal.figure = "idle, "+t.section+": WAL bytes", figIdleWAL
		xids.name, xids.figure = "idle, "+t.section+": transaction ids", figXids
		cpu.name, cpu.figure, cpu.must, cpu.absolute = "idle, "+t.section+": % of a core", figShare, 1.5, true
		all = append(all, wal, xids, cpu)
	}
	for _, holder := range []string{pinnedRead, pinnedXid} {
		all = append(all, target{
			name: "pinned xmin, " + holder + ": last/first", table: tablePinned, section: holder,
			row: rowSkydPinned, figure: figGrowthCPU, instead: figGrowth, must: 1.5, moonshot: 1.1,
		})
	}
	return append(append(all, cascadeTargets()...), walTargets()...)
}

func insertTargets() []target {
	insert := target{table: tableInsert, figure: figCPU, section: insertPipelined, row: rowSkydInsert}
	c, que, raw, small, copied := insert, insert, insert, insert, insert
	c.name, c.against, c.must, c.moonshot = "insert_event against the C extension", rowPgQInsert, 1.25, 0.95
	que.name, que.against, que.must = "insert_event against PgQue", rowPgQueSend, 0.55
	raw.name, raw.section, raw.row, raw.against, raw.must, raw.moonshot = "bulk insert", insertArray, rowSkydArray, rowRawIndexed, 1.15, 1
	small.name, small.section, small.row, small.against, small.must, small.moonshot = "bulk insert, small arrays", insertArray100, rowSkydArray, rowRawIndexed, 0, 1.15
	small.noMust = true // the promise is about bulk; this shows what a call costs
	copied.name, copied.section, copied.row, copied.against, copied.must, copied.moonshot = "COPY", insertCopy, rowSkydCopy, rowRawCopy, 1.15, 1.05
	return []target{c, que, raw, small, copied}
}

func captureTargets() []target {
	t := target{table: tableCapture, figure: figCPU, against: rowPgQLogutriga}
	many, one, old, oldOne := t, t, t, t
	many.name, many.section, many.row, many.must, many.moonshot = "generated capture, many rows", captureMany, rowSkydStatement, 0.6, 0.35
	one.name, one.section, one.row, one.must, one.moonshot = "generated capture, one row", captureOne, rowSkydRow, 1.15, 0.85
	old.name, old.section, old.row, old.must, old.moonshot = "logutriga by the old contract, many rows", captureMany, rowSkydLogutriga, 3, 1.2
	oldOne.name, oldOne.section, oldOne.row, oldOne.must, oldOne.moonshot = "logutriga by the old contract, one row", captureOne, rowSkydLogutriga, 3, 1.2
	return []target{many, one, old, oldOne}
}

func drainTargets() []target {
	t := target{table: tableDrain, section: drainSections[0].name, row: rowSkydConsumer, figure: figWall, atLeast: true}
	wall, cpu, python, pgmq, river := t, t, t, t, t
	wall.name, wall.against, wall.must = "drain: speed against the plain loop on the C extension", rowPgQLoop, 1.5
	cpu.name, cpu.against, cpu.figure, cpu.atLeast, cpu.must, cpu.moonshot = "drain: server CPU against it", rowPgQLoop, figCPU, false, 0.85, 0.5
	python.name, python.against, python.must, python.moonshot = "drain: speed against Python", rowPythonPgQ, 3, 5
	pgmq.name, pgmq.against, pgmq.must, pgmq.moonshot = "drain: speed against pgmq", rowPgmqRead, 4, 6
	river.name, river.against, river.must, river.moonshot = "drain: speed against River", rowRiverWork, 10, 20
	return []target{wall, cpu, python, pgmq, river}
}

func latencyTargets() (all []target) {
	for _, rate := range []int{10, 1000} {
		t := target{table: tableLatency, section: latencySection(rate, asynchronous), row: rowSkydLatency, figure: figP50}
		ms, que := t, t
		ms.name, ms.must, ms.absolute = fmt.Sprintf("latency at %d/s: p50 ms", rate), 5, true
		que.name, que.against, que.must = fmt.Sprintf("latency at %d/s against PgQue", rate), rowPgQueFast, 0.6
		all = append(all, ms, que)
	}
	river := target{
		table: tableLatency, section: latencySection(1000, asynchronous), row: rowSkydLatency, figure: figP50,
		name: "latency at 1000/s against River", against: rowRiverCooldown, noMust: true, moonshot: 1,
	}
	fast := target{table: tableLatency, section: latencySection(5000, asynchronous), row: rowSkydLatency, figure: figP50}
	riverFast, ms := fast, fast
	riverFast.name, riverFast.against, riverFast.must = "latency at 5000/s against River", rowRiverCooldown, 0.1
	ms.name, ms.noMust, ms.moonshot, ms.absolute = "latency at 5000/s: p50 ms", true, 3, true
	return append(all, river, riverFast, ms)
}
