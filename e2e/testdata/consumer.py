"""A consumer written with python3-pgq: it writes each event it gets to a file
and puts events of type "again" off once.

usage: consumer.py OUT [--register] INI
"""

import json
import sys

import pgq


class Mailer(pgq.Consumer):
    def process_event(self, db, event):
        with open(sys.argv[1], "a") as out:
            out.write(json.dumps([event.ev_type, event.ev_data, event.ev_extra1, event.ev_extra2,
                                  event.ev_extra3, event.ev_extra4, event.ev_retry]) + "\n")
        if event.ev_type == "again" and not event.ev_retry:
            event.tag_retry(0)
        else:
            event.tag_done()


Mailer("mailer", "db", sys.argv[2:]).start()
