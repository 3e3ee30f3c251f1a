# Paperzoo without a GPU, 5 GB smaller: torch from its own CPU index, all else from the lock.
#   docker build -f containers/cpu.Dockerfile -t paperzoo-cpu .
#   docker run -v $PWD/runs:/work/runs paperzoo-cpu train model=scnet
FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /paperzoo
COPY requirements.lock containers/without_cuda.py ./
RUN python without_cuda.py requirements.lock > rest.txt \
    && pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu $(python without_cuda.py requirements.lock torch) \
    && pip install --no-cache-dir --no-deps --require-hashes -r rest.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
WORKDIR /work
ENTRYPOINT ["paperzoo"]
CMD ["--help"]
