"""A plan's jobs over Dask workers (package `distributed`) that all see one folder.

    warren-sim plan scenario.toml --seeds 1..1000 --jobs 200 --out /shared/study
    python3 dask_jobs.py /shared/study --scheduler tcp://HOST:8786
    warren-sim merge /shared/study

Without --scheduler the workers are processes here. A job whose worker is lost is run again
elsewhere, and one that is run twice changes nothing. Exit code 1 if a job failed.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from distributed import Client, as_completed


def run(program, folder, job):
    """Does one job; its exit code and what it said."""
    words = [program, "exec", folder, "--job", str(job)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return job, done.returncode, done.stderr.strip()


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", help="what `plan --out` made; the same path on all workers")
    words.add_argument("--scheduler", help="address of a scheduler; without it, workers here")
    words.add_argument("--workers", type=int, default=2, help="how many, without a scheduler")
    words.add_argument("--program", default="warren-sim", help="where workers find it")
    given = words.parse_args()
    plan = json.loads(pathlib.Path(given.folder, "plan", "plan.json").read_text())
    # Each job has one thread: a worker that does two at a time needs two cores.
    here = {"n_workers": given.workers, "threads_per_worker": 1, "dashboard_address": None}
    failed = 0
    with Client(given.scheduler) if given.scheduler else Client(**here) as client:
        jobs = [
            client.submit(run, given.program, given.folder, job, key=f"job-{job}")
            for job in range(1, plan["jobs"] + 1)
        ]
        for done, (job, code, said) in as_completed(jobs, with_results=True):
            failed += code != 0
            print(f"job {job}: {'done' if code == 0 else f'exit code {code}: {said}'}", flush=True)
            done.release()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
