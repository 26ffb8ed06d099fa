// Bun with ONNX Runtime: single events of one iteration of the loop are scored in one run.
//
// bun benchmarks/peers/servers/bun_server.ts MODEL PORT

import { InferenceSession, Tensor } from "onnxruntime-node";

const N_FEATURES = 14;
const [model, port] = process.argv.slice(2);
const session = await InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });

class Refused extends Error {}

async function score(rows: Float32Array): Promise<Float32Array> {
  const features = new Tensor("float32", rows, [rows.length / N_FEATURES, N_FEATURES]);
  return (await session.run({ features })).anomaly_score.data as Float32Array;
}

/** Write the features of one event into `rows`, from `start` on. */
function fill(rows: Float32Array, start: number, features: unknown): void {
  if (!Array.isArray(features) || features.length !== N_FEATURES) throw new Refused(`expected ${N_FEATURES} features`);
  for (let column = 0; column < N_FEATURES; column++) {
    const value = features[column];
    if (typeof value !== "number") throw new Refused("expected numbers");
    rows[start + column] = value;
  }
}

/** Wait for others of this iteration of the loop, and return the score of one event. */
let waiting: { rows: Float32Array; resolve: (score: number) => void; reject: (error: unknown) => void }[] = [];
function scoreWithOthers(rows: Float32Array): Promise<number> {
  return new Promise((resolve, reject) => {
    if (waiting.push({ rows, resolve, reject }) === 1) setImmediate(scoreWaiting);
  });
}

async function scoreWaiting(): Promise<void> {
  const events = waiting;
  waiting = [];
  const rows = new Float32Array(events.length * N_FEATURES);
  events.forEach((event, place) => rows.set(event.rows, place * N_FEATURES));
  try {
    const scores = await score(rows);
    events.forEach((event, place) => event.resolve(scores[place]));
  } catch (error) {
    events.forEach((event) => event.reject(error));
  }
}

async function readJson(request: Request): Promise<any> {
  try {
    return await request.json();
  } catch (error) {
    throw new Refused(String(error));
  }
}

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  routes: {
    "/score": {
      POST: async (request) => {
        const rows = new Float32Array(N_FEATURES);
        fill(rows, 0, (await readJson(request))?.features);
        return Response.json({ anomaly_score: await scoreWithOthers(rows) });
      },
    },
    "/score/batch": {
      POST: async (request) => {
        const events = (await readJson(request))?.events;
        if (!Array.isArray(events)) throw new Refused("expected a list of events");
        const rows = new Float32Array(events.length * N_FEATURES);
        for (let place = 0; place < events.length; place++) fill(rows, place * N_FEATURES, events[place]);
        return Response.json({ anomaly_scores: Array.from(await score(rows)) });
      },
    },
    "/score/raw": {
      POST: async (request) => {
        const body = await request.arrayBuffer();
        if (body.byteLength % (4 * N_FEATURES)) throw new Refused(`expected rows of ${4 * N_FEATURES} bytes`);
        const scores = await score(new Float32Array(body));
        return new Response(scores, { headers: { "Content-Type": "application/octet-stream" } });
      },
    },
  },
  error: (error) => new Response(error.message, { status: error instanceof Refused ? 400 : 500 }),
});
