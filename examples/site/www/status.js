"use strict";
/* Keeps the table of /status up to date: asks once a second, and not while the
 * page is hidden. What came is only ever set as text. */
(function () {
    const PERIOD = 1000;
    const CALLS = 6;      /* what a browser sends to one host at a time */
    const table = document.getElementById("modules");
    const when = document.getElementById("when");
    const burst = document.getElementById("burst");
    const go = document.getElementById("go");
    const heads = Array.from(table.tHead.rows[0].cells).slice(1);
    let wrong = false;

    const text = (value) => value === null || value === undefined ? "–" :
        typeof value === "number" ? String(Math.round(value)) : String(value);

    function row(name) {
        const body = table.tBodies[0];
        for (const r of body.rows) {
            if (r.cells[0].textContent === name) {
                return r;
            }
        }
        const made = body.insertRow();
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = name;
        made.append(head);
        for (const h of heads) {
            made.insertCell().dataset.title = h.textContent;
        }
        return made;
    }

    function show(state) {
        const sum = (key) => state.workers.reduce((n, w) => n + w[key], 0);
        const facts = {
            uptime: Math.floor(state.uptime_s),
            workers: state.workers.length,
            connections: sum("connections"),
            requests: sum("requests")
        };

        for (const id in facts) {
            document.getElementById(id).textContent = text(facts[id]);
        }
        for (const module of state.modules) {
            const r = row(module.name);
            heads.forEach((h, i) => {
                r.cells[i + 1].textContent = text(module[h.dataset.key]);
            });
            r.classList.toggle("busy", module.in_flight > 0);
        }
    }

    /* A status line is read aloud when it changes: only news belongs there. */
    function say(failed) {
        if (failed !== wrong || when.dataset.live === undefined) {
            when.textContent = failed ?
                "Cardea does not answer. These numbers are old; asking again " +
                "every second." : "Live: asked once a second.";
            when.dataset.live = "";
            wrong = failed;
        }
    }

    async function ask() {
        try {
            const r = await fetch("/status.json", {
                cache: "no-store", signal: AbortSignal.timeout(3000)
            });
            if (!r.ok) {
                throw new Error(String(r.status));
            }
            show(await r.json());
            say(false);
        } catch (e) {
            say(true);
        }
    }

    async function turn() {
        if (!document.hidden) {
            await ask();
        }
        setTimeout(turn, PERIOD);
    }

    go.addEventListener("click", async function () {
        go.disabled = true;
        /* One connection stays free for the numbers. */
        await Promise.allSettled(Array.from({ length: CALLS - 1 }, (_, i) =>
            fetch("/slow?ms=2000&call=" + i, { cache: "no-store" })));
        go.disabled = false;
    });
    go.textContent = "Call /slow " + (CALLS - 1) + " times";
    burst.hidden = false;
    turn();
}());
