# Paperzoo on NVIDIA GPUs: torch's own packages bring CUDA, the host brings the driver (nvidia-container-toolkit).
#   docker build -f containers/cuda.Dockerfile -t paperzoo .
#   docker run --gpus all --shm-size 8g -v $PWD/runs:/work/runs paperzoo train model=scnet trainer=gpu
FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /paperzoo
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
WORKDIR /work
ENTRYPOINT ["paperzoo"]
CMD ["--help"]
