# The page on port 7860, for a Hugging Face Space or any machine with Docker. torch's own wheels bring CUDA; triton, which
# trl's loss uses there, wants a C compiler.
FROM python:3.12-slim

RUN apt-get update && apt-get install -y --no-install-recommends git curl gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user && mkdir -m 777 /data
USER user
RUN mkdir /home/user/runs
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True \
    FTUI_HOST=0.0.0.0 \
    FTUI_PORT=7860 \
    FTUI_RUNS=/home/user/runs
WORKDIR /home/user/app

COPY --chown=user requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=user . .

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD curl -fsS http://127.0.0.1:$FTUI_PORT/health || exit 1
CMD ["python", "app.py"]
