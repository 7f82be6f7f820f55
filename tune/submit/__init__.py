"""The same search on a cluster: as a Ray job, a Slurm script or a Kubernetes resource.

`__main__` is the command; `run` says where a run lies and what runs it; `package` what a
job takes along; `jobs` and `fetch` speak with a Ray cluster; `slurm` and `k8s` write files.
"""
