"""The events that a page of the console gets."""

import http.client
import json

from support.console.processes import ConsoleProcess


class Events:
    """The events of one page."""

    def __init__(self, console: ConsoleProcess, cookie: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=60)
        self._connection.request("GET", "/api/events", headers={"cookie": cookie} if cookie else {})
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.rows: dict[int, dict] = {}
        self.sections: dict = {}

    def next(self) -> str:
        """Takes one event; returns its name."""
        event = ""
        while line := self._answer.readline().decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                event = value
            elif field == "data":
                self._take(event, json.loads(value))
        return event

    def next_or_end(self) -> bool:
        """Takes one event or the end; returns whether there was one."""
        line = self._answer.readline()
        while line.strip():
            line = self._answer.readline()
        return bool(line)

    def until(self, condition) -> None:
        """Takes events until the condition holds."""
        while not condition():
            self.next()

    def row(self, name: str) -> dict:
        """Returns the row of a camera; empty if there is none."""
        return next((row for row in self.rows.values() if row["name"] == name), {})

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def _take(self, event: str, data: dict) -> None:
        if event == "snapshot":
            self.rows.clear()
        for number, fields in data.pop("rows", []):
            self.rows.setdefault(number, {}).update(fields)
        for number in data.pop("gone", []):
            del self.rows[number]
        self.sections.update(data)
