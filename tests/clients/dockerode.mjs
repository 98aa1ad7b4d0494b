// dockerode, unchanged, against hulld: what its users do all day. Ends with 0 when every answer was right.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

const require = createRequire(process.env.MODULES + '/');
const Docker = require('dockerode');
const tar = require('tar-stream');
const docker = new Docker({ socketPath: process.env.SOCKET });
const NONE = { NetworkMode: 'none' };

const text = async (stream) => {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
};

/** Both outputs of a multiplexed stream, until its end. */
async function outputs(stream) {
  const out = new PassThrough();
  const err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => (out.end(), err.end()));
  stream.on('close', () => (out.end(), err.end()));
  return Promise.all([text(out), text(err)]);
}

const ended = (stream) => new Promise((done, fail) =>
  docker.modem.followProgress(stream, (error, events) => (error ? fail(error) : done(events))));

const works = {
  async system() {
    assert.equal((await docker.ping()).toString(), 'OK');
    assert.ok((await docker.version()).ApiVersion);
    assert.equal((await docker.info()).OSType, 'linux');
    assert.ok(Array.isArray((await docker.df()).Images));
  },

  async run() {
    const out = new PassThrough();
    const said = text(out);
    const [end, container] = await docker.run('test', ['sh', '-c', 'echo through run; exit 3'], out, { HostConfig: NONE, Tty: true });
    out.end();
    assert.equal(end.StatusCode, 3);
    assert.equal(await said, 'through run\r\n');
    await container.remove();
  },

  async attached() {
    const container = await docker.createContainer({
      Image: 'test', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true, HostConfig: NONE, Labels: { part: 'cat' } });
    const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    await container.start();
    stream.write('what goes in ');
    stream.end('comes out');
    assert.deepEqual(await outputs(stream), ['what goes in comes out', '']);
    assert.equal((await container.wait()).StatusCode, 0);
    assert.equal((await docker.listContainers({ filters: { label: ['part=cat'] } })).length, 0);
    assert.equal((await docker.listContainers({ all: true, filters: { label: ['part=cat'] } })).length, 1);
    await container.remove();
    await assert.rejects(container.inspect(), (error) => error.statusCode === 404 && /No such container/.test(error.message));
  },

  async execs() {
    const container = await docker.createContainer({ Image: 'test', Cmd: ['sleep', '1000'], HostConfig: NONE, StopTimeout: 0 });
    await container.start();
    await assert.rejects(container.remove(), (error) => error.statusCode === 409);
    const exec = await container.exec({
      Cmd: ['sh', '-c', 'echo to stdout; echo to stderr >&2; exit 5'], AttachStdout: true, AttachStderr: true });
    assert.deepEqual(await outputs(await exec.start({})), ['to stdout\n', 'to stderr\n']);
    assert.equal((await exec.inspect()).ExitCode, 5);
    const shell = await container.exec({ Cmd: ['sh'], AttachStdin: true, AttachStdout: true, Tty: true });
    const terminal = await shell.start({ hijack: true, stdin: true, Tty: true });
    await shell.resize({ h: 33, w: 111 });
    terminal.write('stty size; exit\n');
    assert.match(await text(terminal), /33 111/);
    const processes = await container.top();
    assert.ok(processes.Processes.some((row) => row.join(' ').includes('sleep 1000')));
    const one = await container.stats({ stream: false });
    assert.equal(one.id, container.id);
    await container.pause();
    assert.equal((await container.inspect()).State.Status, 'paused');
    await container.unpause();
    await container.rename({ name: 'renamed' });
    assert.equal((await docker.getContainer('renamed').inspect()).Id, container.id);
    await container.update({ RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } });
    await container.stop({ t: 0 });
    await container.remove({ v: true });
  },

  async files() {
    const container = await docker.createContainer({ Image: 'test', Cmd: ['cat', '/data/put'], HostConfig: NONE });
    const pack = tar.pack();
    pack.entry({ name: 'put', mode: 0o600 }, 'from a client\n');
    pack.finalize();
    await container.putArchive(pack, { path: '/data' });
    const extract = tar.extract();
    const found = {};
    extract.on('entry', async (header, stream, next) => {
      found[header.name] = await text(stream);
      next();
    });
    (await container.getArchive({ path: '/data/put' })).pipe(extract);
    await new Promise((done) => extract.on('finish', done));
    assert.deepEqual(found, { put: 'from a client\n' });
    assert.ok((await container.changes()).some((change) => change.Path === '/data/put' && change.Kind === 1));
    await container.start();
    await container.wait();
    const log = await container.logs({ stdout: true, stderr: true });
    assert.equal(log.subarray(8).toString(), 'from a client\n');
    const image = await container.commit({ repo: 'made', tag: 'here', changes: 'CMD ["true"]' });
    assert.ok(image.Id);
    assert.deepEqual((await docker.getImage('made:here').inspect()).Config.Cmd, ['true']);
    await docker.getImage('made:here').remove();
    await container.remove();
  },

  async followed() {
    const container = await docker.createContainer({
      Image: 'test', Cmd: ['sh', '-c', 'for i in 1 2 3; do echo line $i; sleep 0.1; done'], HostConfig: NONE });
    await container.start();
    const [out] = await outputs(await container.logs({ follow: true, stdout: true, stderr: true }));
    assert.equal(out, 'line 1\nline 2\nline 3\n');
    await container.remove();
  },

  async events() {
    const since = Math.floor(Date.now() / 1000) - 1;
    const stream = await docker.getEvents({ since, filters: { label: ['part=events'], type: ['container'] } });
    const seen = [];
    stream.on('data', (piece) => {
      for (const line of piece.toString().split('\n')) if (line) seen.push(JSON.parse(line).Action);
    });
    const container = await docker.createContainer({ Image: 'test', Cmd: ['true'], HostConfig: NONE, Labels: { part: 'events' } });
    await container.start();
    await container.wait();
    await container.remove();
    const wanted = ['create', 'start', 'die', 'destroy'];
    for (let i = 0; i < 200 && !wanted.every((action) => seen.includes(action)); ++i) await pause(50);
    assert.deepEqual(seen.filter((action) => wanted.includes(action)), wanted);
    stream.destroy();
  },

  async networks() {
    const network = await docker.createNetwork({ Name: 'talk', Labels: { of: 'dockerode' } });
    const server = await docker.createContainer({
      Image: 'test', Cmd: ['sh', '-c', 'echo here > /tmp/index.html; exec busybox httpd -f -p 80 -h /tmp'],
      HostConfig: { NetworkMode: 'talk' }, NetworkingConfig: { EndpointsConfig: { talk: { Aliases: ['site'] } } } });
    await server.start();
    const client = await docker.createContainer({
      Image: 'test', Cmd: ['sh', '-c', 'for i in $(seq 50); do busybox wget -q -O - http://site/ && exit 0; sleep 0.1; done; exit 1'] });
    await network.connect({ Container: client.id });
    await client.start();
    assert.equal((await client.wait()).StatusCode, 0);
    const described = await network.inspect();
    assert.equal(described.Containers[server.id].Name.length > 0, true);
    await assert.rejects(network.remove(), (error) => error.statusCode === 403 || error.statusCode === 409);
    await client.remove({ force: true });
    await server.remove({ force: true });
    await network.remove();
  },

  async volumes() {
    const volume = await docker.createVolume({ Name: 'kept', Labels: { of: 'dockerode' } });
    const write = await docker.createContainer({
      Image: 'test', Cmd: ['sh', '-c', 'echo stays > /v/file'], HostConfig: { ...NONE, Binds: ['kept:/v'] } });
    await write.start();
    await write.wait();
    await write.remove();
    const [out] = await Promise.all([(async () => {
      const read = await docker.createContainer({
        Image: 'test', Cmd: ['cat', '/v/file'], HostConfig: { ...NONE, Mounts: [{ Type: 'volume', Source: 'kept', Target: '/v' }] } });
      const stream = await read.attach({ stream: true, stdout: true, stderr: true });
      await read.start();
      const [said] = await outputs(stream);
      const [row] = (await docker.listContainers({ all: true })).filter((one) => one.Id === read.id);
      assert.equal(row.Mounts[0].Destination, '/v');
      assert.equal(row.Mounts[0].Name, 'kept');
      await read.remove({ force: true });
      return said;
    })()]);
    assert.equal(out, 'stays\n');
    assert.ok((await docker.listVolumes()).Volumes.some((one) => one.Name === 'kept'));
    await volume.remove();
  },

  async images() {
    const image = docker.getImage('test:latest');
    const described = await image.inspect();
    assert.ok((await image.history()).length > 0);
    await image.tag({ repo: 'again', tag: 'one' });
    const archive = await docker.getImage('again:one').get();
    const pieces = [];
    for await (const piece of archive) pieces.push(piece);
    await docker.getImage('again:one').remove();
    const loaded = new PassThrough();
    loaded.end(Buffer.concat(pieces));
    const said = await ended(await docker.loadImage(loaded));
    assert.ok(said.some((event) => /Loaded image/.test(event.stream ?? '')), JSON.stringify(said));
    assert.equal((await docker.getImage('again:one').inspect()).Id, described.Id);
    await docker.getImage('again:one').remove();
    await assert.rejects(docker.getImage('no-such-image').inspect(), (error) => error.statusCode === 404);
  },
};

for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(works)) {
  await works[name]();
  console.log(`${name}: right`);
}
