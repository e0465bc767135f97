// The panel of the database and the spool: whether rows arrive, and where they wait.

import { bytes, counted, number } from "./format.js";
import { facts, meter } from "./table.js";

export function open(section, page) {
  page.curl(section, "GET", "/v1/storage");
  const body = section.querySelector(".body");
  const show = facts(body);
  const full = meter("Spool");
  body.append(full.whole);
  return {
    overview({ storage, totals }) {
      const { spool } = storage;
      show({
        "Database": storage.database,
        "Takes rows": storage.takes_rows ? { text: "yes", tone: "good" } : { text: `no: ${storage.error ?? "not asked yet"}`, tone: "bad" },
        "Rows stored": `${number(storage.rows_stored)}, ${number(totals.stored_per_second)} /s`,
        "Rows in memory": number(storage.rows_waiting),
        "Rows refused": { text: number(storage.rows_refused), tone: storage.rows_refused ? "bad" : "" },
        "Spool": spool ? spool.where : "none: rows wait in memory only",
        "Rows in the spool": spool && { text: `${number(spool.rows)} in ${counted(spool.batches, "batch", "batches")}`, tone: spool.rows ? "warn" : "" },
        "Spool's error": spool?.error && { text: spool.error, tone: "bad" },
      });
      full.whole.hidden = !spool;
      if (spool) full.show(spool.bytes, spool.limit_bytes, `${bytes(spool.bytes)} of ${bytes(spool.limit_bytes)}`);
    },
  };
}
