# rowfleet: one image for every role, which the command names: `serve --roles splitter,worker,aggregator`.
#
# Built by `make image`. The base may be any glibc image with Python from 3.11 on and pip; one with a company's
# own certificates in it is the way to install through that company's mirror.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# -- what rowfleet needs: a layer that changes with the lock only ---------------------------------------

FROM ${PYTHON_IMAGE} AS requirements
# Where packages come from is the business of whoever builds; pip reads these from its environment, if given.
# Declared in this stage only, so that no address or password is in the history of the image itself.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
WORKDIR /build
COPY requirements/build.txt requirements/runtime.txt requirements/
# Bytecode is compiled here, for a root filesystem that is read-only, and by hash instead of by time: the same
# sources make the same bytes, and no file is looked up twice at start.
RUN python -m venv --without-pip /opt/rowfleet \
 && pip --python /opt/rowfleet/bin/python install --no-cache-dir --no-compile --require-hashes \
      -r requirements/runtime.txt \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/rowfleet/lib

# -- rowfleet itself: a small layer ---------------------------------------------------------------------

FROM requirements AS build
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
# --root writes just the new files, at the paths that they have in the last stage.
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation -w dist . \
 && pip --python /opt/rowfleet/bin/python install --no-cache-dir --no-index --no-compile --no-deps \
      --root /new dist/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /new /new

# -- the image ------------------------------------------------------------------------------------------

FROM ${PYTHON_IMAGE}
RUN python -m pip --no-cache-dir uninstall --yes --root-user-action ignore pip
COPY --from=requirements /opt/rowfleet /opt/rowfleet
COPY --from=build /new /
# Official Python images have no bytecode of the standard library. A first start writes what a start needs.
RUN /opt/rowfleet/bin/rowfleet --help >/dev/null
# The mappings that are shipped, and the tool that one of them calls: `mappings` and `schemas` in the working
# directory are the defaults of ROWFLEET_MAPPINGS and ROWFLEET_SCHEMAS. Modules of `invoke: python` are looked
# for here too.
WORKDIR /srv/rowfleet
COPY mappings mappings
COPY schemas schemas
COPY examples/__init__.py examples/__init__.py
COPY examples/classify examples/classify

ENV PATH=/opt/rowfleet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ROWFLEET_HEALTH__HOST=0.0.0.0 \
    ROWFLEET_HEALTH__PORT=8080
EXPOSE 8080
# What a read-only root filesystem leaves to write to; Fargate gives its volume the permissions it has here.
VOLUME ["/tmp"]
USER 10001:10001
STOPSIGNAL SIGTERM
# Alive, not ready: a process that AWS refuses does not get better by being killed. ECS asks by the task
# definition instead, with the same command.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["rowfleet", "healthcheck"]
ENTRYPOINT ["rowfleet"]
CMD ["serve"]

ARG PYTHON_IMAGE
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="rowfleet" \
      org.opencontainers.image.description="Run every row of a CSV through any agent or tool, exactly once in the result." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
