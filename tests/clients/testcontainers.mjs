// testcontainers, unchanged, against hulld. Its reaper is an image of a foreign registry and is switched off by
// TESTCONTAINERS_RYUK_DISABLED: what is started here is stopped here, and the test counts what is left.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const require = createRequire(process.env.MODULES + '/');
const { GenericContainer, Network, Wait } = require('testcontainers');

const server = (page) => ['sh', '-c', `echo ${page} > /tmp/index.html; echo serving; exec busybox httpd -f -p 80 -h /tmp`];
const fetched = async (container, path = '/') =>
  (await fetch(`http://${container.getHost()}:${container.getMappedPort(80)}${path}`)).text();

const works = {
  async ports() {
    for (const strategy of [Wait.forListeningPorts(), Wait.forLogMessage('serving'), Wait.forHttp('/', 80)]) {
      const container = await new GenericContainer('test').withCommand(server('first')).withExposedPorts(80)
        .withWaitStrategy(strategy.withStartupTimeout(60_000)).start();
      for (let i = 0; i < 100; ++i) {
        // A line of the log comes before the server listens.
        try { if (await fetched(container)) break; } catch { await new Promise((next) => setTimeout(next, 50)); }
      }
      assert.equal(await fetched(container), 'first\n');
      await container.stop({ timeout: 0 });
    }
  },

  async content() {
    const container = await new GenericContainer('test').withCommand(server('page')).withExposedPorts(80)
      .withEnvironment({ COLOUR: 'green' }).withLabels({ kind: 'content' }).withTmpFs({ '/scratch': 'rw' })
      .withCopyContentToContainer([{ content: 'copied before the start\n', target: '/tmp/copied' }])
      .withHealthCheck({ test: ['CMD-SHELL', 'busybox wget -q -O - http://127.0.0.1/'], interval: 200, timeout: 3000, retries: 50, startPeriod: 0 })
      .withWaitStrategy(Wait.forHealthCheck()).start();
    assert.equal(await fetched(container, '/copied'), 'copied before the start\n');
    const seen = await container.exec(['sh', '-c', 'echo $COLOUR; echo wrong >&2; exit 4']);
    assert.deepEqual([seen.exitCode, seen.stdout, seen.stderr], [4, 'green\n', 'wrong\n']);
    await container.copyContentToContainer([{ content: 'copied later\n', target: '/tmp/later' }]);
    assert.equal(await fetched(container, '/later'), 'copied later\n');
    assert.ok((await text(await container.copyArchiveFromContainer('/tmp/later'))).includes('copied later'));
    await container.restart({ timeout: 0 });
    assert.equal((await container.exec(['cat', '/tmp/later'])).stdout, 'copied later\n');
    const lines = await container.logs();
    await new Promise((done, fail) => {
      let seen = '';
      lines.on('data', (line) => (seen += line).includes('serving') && done());
      lines.on('end', () => fail(new Error(`the log ended after: ${seen}`)));
    });
    lines.destroy();
    const image = await container.commit({ repository: 'committed', tag: 'now' }).catch((error) => error);
    assert.ok(!(image instanceof Error), String(image));
    await container.stop({ timeout: 0 });
  },

  async networks() {
    const network = await new Network().start();
    const site = await new GenericContainer('test').withCommand(server('across')).withNetwork(network)
      .withNetworkAliases('site').withExposedPorts(80).withWaitStrategy(Wait.forListeningPorts()).start();
    const other = await new GenericContainer('test').withCommand(['sleep', '1000']).withNetwork(network)
      .withWaitStrategy(Wait.forSuccessfulCommand('busybox wget -q -O - http://site/ | grep across')).start();
    assert.equal((await other.exec('busybox wget -q -O - http://site/')).output, 'across\n');
    assert.ok(site.getIpAddress(network.getName()));
    await other.stop({ timeout: 0 });
    await site.stop({ timeout: 0 });
    await network.stop();
  },

  async failures() {
    await assert.rejects(new GenericContainer('test').withCommand(['sh', '-c', 'exit 9'])
      .withWaitStrategy(Wait.forLogMessage('never').withStartupTimeout(3_000)).start());
    const once = await new GenericContainer('test').withCommand(['sh', '-c', 'echo done']).withWaitStrategy(Wait.forOneShotStartup()).start();
    await once.stop();
  },
};

// testcontainers lets a log's socket not keep the program alive; this does.
const alive = setInterval(() => {}, 1000);
for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(works)) {
  await works[name]();
  console.log(`${name}: right`);
}
clearInterval(alive);
