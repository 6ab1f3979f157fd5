import sys

import pgq


class Counter(pgq.Consumer):
    count = 0

    def process_event(self, db, event):
        self.count += 1


counter = Counter("bench", "db", sys.argv[1:])
curs = counter.get_database("db").cursor()
curs.execute("select 1")
counter.get_database("db").commit()
print("ready", flush=True)
sys.stdin.readline()
while counter.work():
    pass
print(counter.count, flush=True)
sys.stdin.readline()
