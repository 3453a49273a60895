// Workers on pg-boss. Tuned, as its documentation advises for throughput: batches of 100 jobs, several of them at once in one
// process (localConcurrency), each fetched as soon as the one before is done (burstWhenBatchFull), and a pool that has a connection
// for each. And as its README runs it: `send` for each row, and `work` with no options, so one job each two seconds. Called by
// hack/benchmarks/pgboss_worker.py:
//
//   node worker.mjs seed URL QUEUE ROWS FIRST_ID        inserts a job for each row
//   node worker.mjs work URL QUEUE ROWS CONCURRENCY     works on them, and prints the seconds from the first batch to the last
//   node worker.mjs readme-seed URL QUEUE ROWS FIRST_ID sends a job for each row, and prints the seconds
//   node worker.mjs readme-work URL QUEUE ROWS 1        works on them, and prints the seconds from its start to the last
//
// The "model" answers each call after 200 ms, in this process, as the one of the operator does in its own.

import { setTimeout as sleep } from 'node:timers/promises'
import { PgBoss } from 'pg-boss'
import pg from 'pg'

const BATCH = 100
const LATENCY_MS = 200
const DIMENSIONS = 768
const TEXT = "lower(concat_ws(' ', name, description))"
const READ = `SELECT id, ${TEXT} AS text FROM public.businesses WHERE id = ANY($1::bigint[])`
const WRITE = `UPDATE public.businesses SET embedding = v.embedding::vector
  FROM unnest($1::bigint[], $2::text[], $3::text[]) v(id, text, embedding)
  WHERE businesses.id = v.id AND ${TEXT} = v.text`

const [task, url, queue, rowsGiven, given] = process.argv.slice(2)
const rows = Number(rowsGiven)

function makeVectors () {
  return Array.from({ length: 64 }, (_, seed) =>
    Array.from({ length: DIMENSIONS }, (_, n) => Math.sin(seed * DIMENSIONS + n) / Math.sqrt(DIMENSIONS / 2)))
}

async function seed (boss, firstId) {
  await boss.createQueue(queue)
  for (let start = 0; start < rows; start += 1000) {
    const jobs = Array.from({ length: Math.min(1000, rows - start) }, (_, n) => ({ data: { id: firstId + start + n } }))
    await boss.insert(queue, jobs)
  }
}

async function seedAsReadme (boss, firstId) {
  await boss.createQueue(queue)
  const began = performance.now()
  for (let id = firstId; id < firstId + rows; id += 1) await boss.send(queue, { id })
  console.log((performance.now() - began) / 1000)
}

async function work (boss, concurrency) {
  const options = { batchSize: BATCH, localConcurrency: concurrency, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }
  console.log(await seconds(boss, concurrency, handler => boss.work(queue, options, handler)))
}

async function workAsReadme (boss) {
  const began = performance.now()
  await seconds(boss, 1, handler => boss.work(queue, handler))
  console.log((performance.now() - began) / 1000)
}

// From the first batch to the last.
async function seconds (boss, concurrency, workWith) {
  const pool = new pg.Pool({ connectionString: url, max: concurrency })
  const vectors = makeVectors()
  let done = 0
  let began
  const finished = new Promise((resolve, reject) => {
    boss.on('error', reject)
    workWith(async jobs => {
      began ??= performance.now()
      const read = await pool.query(READ, [jobs.map(job => job.data.id)])
      await sleep(LATENCY_MS)
      const embeddings = read.rows.map(row => JSON.stringify(vectors[Number(row.id) % vectors.length]))
      const written = await pool.query(WRITE, [read.rows.map(row => row.id), read.rows.map(row => row.text), embeddings])
      done += written.rowCount
      if (done >= rows) resolve(performance.now())
    }).catch(reject)
  })
  const ended = await finished
  await pool.end()
  return (ended - began) / 1000
}

const asReadme = task.startsWith('readme-')
const boss = new PgBoss(asReadme ? url : { connectionString: url, max: task === 'work' ? Number(given) + 2 : 4 })
await boss.start()
const tasks = { seed, work, 'readme-seed': seedAsReadme, 'readme-work': workAsReadme }
await tasks[task](boss, Number(given))
await boss.stop({ graceful: false })
process.exit(0)
