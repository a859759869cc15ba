"""A door at a gate: reports once, then waits for events. For paho-mqtt 1.6.1 (door_v2.py is for 2.x)."""

import json
import os
import time

import paho.mqtt.client as mqtt

HOST = os.environ.get("LAPWING_HOST", "127.0.0.1")
PORT = int(os.environ.get("LAPWING_PORT", 1883))
CLIENT_ID = "door_1"
USER_NAME = "gate"
PASSWORD = "secret"


def on_connect(client, userdata, flags, rc):
    print("connected: " + mqtt.connack_string(rc), flush=True)
    client.subscribe("gate/door_1/event", qos=1)


def on_message(client, userdata, message):
    print(message.topic + " " + message.payload.decode(), flush=True)


def on_subscribe(client, userdata, mid, granted_qos):
    # One filter was asked for, so granted_qos is a tuple of one number, which "%" takes apart.
    print("%d" % granted_qos, flush=True)


def on_disconnect(client, userdata, rc):
    print("disconnected: %d" % rc, flush=True)


# Not assigned below: a program need not listen for acknowledgements.
def on_publish(client, userdata, mid):
    print("published: %d" % mid, flush=True)


client = mqtt.Client(CLIENT_ID)
client.username_pw_set(USER_NAME, PASSWORD)
client.on_connect = on_connect
client.on_message = on_message
client.on_subscribe = on_subscribe
client.on_disconnect = on_disconnect

client.connect(HOST, PORT, 120)
payload = json.dumps({"timestamp": int(time.time()), "message": "the door is ready"})
client.publish("topic", payload=payload, qos=1)
try:
    client.loop_forever()
except KeyboardInterrupt:
    client.disconnect()
